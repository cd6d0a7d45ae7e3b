package main

import (
	"fmt"
	"math"
	"slices"
)

// A figure is one line of the table: what is measured, and what would be good.
type figure struct {
	name     string
	unit     string
	less     bool    // less is better
	ratio    float64 // to reach: postamt divided by the best peer, 0: none
	absolute float64 // to reach: postamt's own figure, 0: none
}

// samples are the values of one server: for each figure one a run.
type samples struct {
	values [][]float64
	err    error
}

func (s *samples) add(values []float64) {
	for i, v := range values {
		s.values[i] = append(s.values[i], v)
	}
}

// median returns NaN for no values, and for a figure that a server does not have.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func printHead() {
	fmt.Println("| figure | unit | Postfix or Dovecot | Exim, Courier or Dovecot tuned | postamt | ratio | to reach | |")
	fmt.Println("|---|---|---:|---:|---:|---:|---:|---|")
}

// printRow prints the figures of an experiment, then the command that made the load.
func printRow(e experiment, results map[string]*samples) {
	for i, f := range e.figures {
		value := func(kind string) float64 {
			if s := results[kind]; s != nil && s.err == nil {
				return median(s.values[i])
			}
			return math.NaN()
		}
		postfix, exim, ours := value("postfix"), value("exim"), value("postamt")
		if _, ok := results["dovecot"]; ok {
			postfix = value("dovecot")
		}
		for _, kind := range []string{"courier", dovecotFast} {
			if _, ok := results[kind]; ok {
				exim = value(kind)
			}
		}
		// The comparison is with the better peer.
		peer := postfix
		if math.IsNaN(peer) || !math.IsNaN(exim) && (exim < peer) == f.less && exim != peer {
			peer = exim
		}
		ratio := ours / peer
		reach, verdict := "", ""
		var reached bool
		switch {
		case f.absolute != 0:
			reach, reached = format(f.absolute)+" "+f.unit, f.better(ours, f.absolute)
		case f.ratio != 0:
			reach, reached = format(f.ratio)+" x", f.better(ratio, f.ratio)
		}
		if reach != "" && !math.IsNaN(ours) && (f.absolute != 0 || !math.IsNaN(ratio)) {
			verdict = map[bool]string{true: "reached", false: "MISSED"}[reached]
		}
		fmt.Printf("| %s | %s | %s | %s | %s | %s | %s | %s |\n",
			f.name, f.unit, format(postfix), format(exim), format(ours), format(ratio), reach, verdict)
	}
	fmt.Printf("| `%s` | | | | | | | |\n", e.what)
}

func (f figure) better(a, b float64) bool {
	if f.less {
		return a <= b
	}
	return a >= b
}

// format writes three significant digits, and whole numbers from 100 on.
func format(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
