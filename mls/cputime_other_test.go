//go:build !unix

package mls

import "time"

var processStart = time.Now()

// cpuTime returns the time since the process began, where its CPU time is not known.
func cpuTime() time.Duration { return time.Since(processStart) }
