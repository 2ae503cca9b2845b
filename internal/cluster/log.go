package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"
)

// A Request is one request between providers, as the one that answered it
// logged it.
type Request struct {
	From, To string // domains
	Endpoint string // key of the directory, such as submitMessage
	Status   int    // HTTP status
}

// Watch calls f for each request between providers from now on, until ctx ends.
func (c *Cluster) Watch(ctx context.Context, f func(Request)) error {
	for _, p := range c.Providers {
		file, err := os.Open(p.Log)
		if err != nil {
			return err
		}
		if _, err := file.Seek(0, io.SeekEnd); err != nil {
			return err
		}
		go p.follow(ctx, file, f)
	}
	return nil
}

// follow reads a log as it grows.
func (p *Provider) follow(ctx context.Context, file *os.File, f func(Request)) {
	defer file.Close()
	in := bufio.NewReader(file)
	var line []byte
	for {
		part, err := in.ReadBytes('\n')
		line = append(line, part...)
		if errors.Is(err, io.EOF) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		if err != nil {
			return
		}
		var entry struct {
			Message  string `json:"msg"`
			Endpoint string `json:"endpoint"`
			Peer     string `json:"peer"`
			Status   int    `json:"status"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Peer != "" && (entry.Message == "federation request" || entry.Message == "federation request refused") {
			f(Request{From: entry.Peer, To: p.Domain, Endpoint: entry.Endpoint, Status: entry.Status})
		}
		line = line[:0]
	}
}
