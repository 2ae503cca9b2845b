package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// number writes a figure with as many digits as it deserves.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// WriteText writes the report for people.
func (r *Report) WriteText(out io.Writer) error {
	fmt.Fprintf(out, "comity bench, %s, %d cores for the providers and the load generator together\n\n", r.Started.Format("2006-01-02 15:04"), r.CPUs)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SCENARIO\tWHAT\tVALUE\t\tFLOOR\t× FLOOR\tAIM")
	for _, f := range r.Figures {
		floor, ratio := "", ""
		if f.Floor > 0 {
			floor, ratio = number(f.Floor)+" ("+f.FloorIs+")", number(f.Value/f.Floor)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Scenario, f.What, number(f.Value), f.Unit, floor, ratio, f.Aim)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "SCENARIO\tPROCESS\tCPU\tMEMORY")
	for _, u := range r.Uses {
		fmt.Fprintf(w, "%s\t%s\t%.0f %%\t%.0f MiB\n", u.Scenario, u.Process, u.CPUPercent, u.MemoryMiB)
	}
	return w.Flush()
}
