//go:build !unix

package interop

import "time"

// cpuTime is not known here.
func cpuTime() time.Duration { return 0 }
