// Command benchpeers does the same MLS work with package mls and with its foreign peers, and prints
// one table with ratios. interop/README.md describes the work.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/comity-im/comity/interop"
)

func main() {
	log.SetFlags(0)
	suite := flag.Uint("suite", 1, "cipher suite")
	sizes := flag.String("sizes", "2,10,100,500,1000", "group sizes")
	slow := flag.Int("slow", 500, "largest group size for ts-mls, which needs half an hour for 1000")
	out := flag.String("json", "", "file for the rows, one JSON object a line")
	only := flag.String("peers", "comity,mls-rs,openmls,ts-mls", "peers")
	figure := flag.String("figure", "median", "what to compare: median or min of the time, or cpu, the processor time")
	flag.Parse()
	if err := run(uint16(*suite), *sizes, *slow, *only, *out, *figure); err != nil {
		log.Fatal(err)
	}
}

func run(suite uint16, sizeList string, slow int, only, out string, figureName string) error {
	figure, ok := interop.Figures[figureName]
	if !ok {
		return fmt.Errorf("no figure %q", figureName)
	}
	var sizes []int
	for _, text := range strings.Split(sizeList, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 2 {
			return fmt.Errorf("group size %q", text)
		}
		sizes = append(sizes, n)
	}
	wanted := strings.Split(only, ",")

	var all []interop.Measurement
	emit := func(m interop.Measurement) {
		all = append(all, m)
		log.Printf("%s %s: suite %d, %s, %d members: %.3f ms (%d rounds)",
			m.Peer, m.Version, m.Suite, m.Op, m.Members, float64(m.MedianNS)/1e6, m.Rounds)
	}
	if slices.Contains(wanted, "comity") {
		for _, n := range sizes {
			if err := interop.Measure(interop.NewComity(), suite, n, emit); err != nil {
				return err
			}
		}
	}
	for _, f := range interop.Foreigns() {
		if !slices.Contains(wanted, f.Name) {
			continue
		}
		err := f.Build(context.Background(), os.Stderr)
		if errors.Is(err, interop.ErrNoToolchain) {
			log.Print(err)
			continue
		}
		if err != nil {
			return err
		}
		with := sizes
		if f.Name == "ts-mls" {
			with = slices.DeleteFunc(slices.Clone(sizes), func(n int) bool { return n > slow })
		}
		if err := interop.MeasureForeign(os.Stderr, f, suite, with, emit); err != nil {
			return err
		}
	}
	if out != "" {
		file, err := os.Create(out)
		if err != nil {
			return err
		}
		defer file.Close()
		rows := json.NewEncoder(file)
		for _, m := range all {
			if err := rows.Encode(m); err != nil {
				return err
			}
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return interop.WriteTable(os.Stdout, all, figure)
}
