package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/comity-im/comity/internal/inspect"
)

// Inspect shows the bytes of one object of the protocols.
type Inspect struct {
	File string `arg:"" optional:"" help:"File to read; - is standard input." default:"-"`
	As   string `help:"Type to read it as, such as UpdateRequest; without it, it is found out." placeholder:"TYPE"`
	Form string `help:"How the file holds the bytes: auto, raw, hex or base64." enum:"auto,raw,hex,base64" default:"auto"`
	JSON bool   `name:"json" help:"Print one JSON object instead."`
	List bool   `help:"Print the types that --as takes, and stop."`
}

// Help is shown below the flags.
func (Inspect) Help() string {
	return `Decodes MLS messages and objects, every MIMI request and response, room components, MIMI content and message status,
with the field names of the drafts, each line with its offset. What an opaque field holds is decoded too where its
surroundings say what it is. For bytes that can't be read it prints what could be, then at which offset, in which field
and why reading stopped, and exits with 1.`
}

// maxInspect is the largest file that is read, that of the longest request.
const maxInspect = 64 << 20

// Run reads, decodes and prints.
func (i *Inspect) Run(out io.Writer) error {
	if i.List {
		_, err := fmt.Fprintln(out, strings.Join(inspect.Types(), "\n"))
		return err
	}
	b, err := i.read()
	if err != nil {
		return err
	}
	if b, err = inspect.Decode(b, i.Form); err != nil {
		return err
	}

	as, also := i.As, []string(nil)
	var tree inspect.Tree
	var stopped error
	if as == "" {
		as, also, tree, stopped = inspect.Auto(b)
	} else if tree, stopped = inspect.Inspect(as, b); errors.Is(stopped, inspect.ErrType) {
		return fmt.Errorf("%w; 'comity inspect --list' prints those that there are", stopped)
	}
	if i.JSON {
		if err := printJSON(out, as, also, tree, stopped); err != nil {
			return err
		}
	} else {
		if _, err := fmt.Fprintln(out, strings.TrimSuffix(tree.String(), "\n")); err != nil {
			return err
		}
		if len(also) > 0 {
			if _, err := fmt.Fprintf(out, "(It also reads as %s.)\n", strings.Join(also, ", ")); err != nil {
				return err
			}
		}
	}
	switch {
	case stopped == nil:
		return nil
	case i.As == "":
		return fmt.Errorf("these %d bytes are no object that we know; furthest got reading a %s: %w", len(b), as, stopped)
	}
	return stopped
}

func (i *Inspect) read() ([]byte, error) {
	in := io.Reader(os.Stdin)
	if i.File != "-" {
		f, err := os.Open(i.File)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxInspect+1))
	if err == nil && len(b) > maxInspect {
		err = fmt.Errorf("%s is larger than %d MiB", i.File, maxInspect>>20)
	}
	return b, err
}

func printJSON(out io.Writer, as string, also []string, tree inspect.Tree, stopped error) error {
	v := struct {
		Type  string       `json:"type"`
		Also  []string     `json:"also,omitempty"`
		Value inspect.Tree `json:"value"`
		Error string       `json:"error,omitempty"`
	}{Type: as, Also: also, Value: tree}
	if stopped != nil {
		v.Error = stopped.Error()
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
