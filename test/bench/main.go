// Command bench measures postamt against Postfix, and against Exim where Exim is the better peer, and what reads mail against Dovecot and Courier: in turn, on the same
// file system, in the same run, with the same load. It prints a table with medians and ratios.
//
//	go run ./test/bench [-runs n] [-rows list] [-servers list] [-fs root|ext4|xfs] [-dir path] [-scale x]
//
// The load comes from Postfix's own smtp-source where that can make it, else from the generator in source.go, and is the
// same for every server. Each run starts a fresh server on an empty directory, sends some messages to warm it up,
// and is then measured. The peers come from test/peers (settings there), postamt from test/suite; both log to files. The
// servers need root. Mail that is read by IMAP is of realistic form (mail.go), the same maildir for all. -fs ext4 and xfs make a file, mount it by loop, and remove both at the end, also
// after an interrupt.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"postamt/test/suite"
)

func main() {
	os.Exit(run())
}

func run() int {
	runs := flag.Int("runs", 3, "runs of each row for each server; the median counts")
	rows := flag.String("rows", "", "comma-separated names of rows, see -list; empty: all")
	servers := flag.String("servers", "postfix,exim,dovecot,"+dovecotFast+",courier,postamt", "servers to measure")
	fsKind := flag.String("fs", "root", "root: a directory in -dir; ext4 or xfs: a new file system in a file in -dir")
	dir := flag.String("dir", os.TempDir(), "where the servers' directories are made")
	scale := flag.Float64("scale", 1, "factor on the number of messages")
	list := flag.Bool("list", false, "name the rows and exit")
	verbose := flag.Bool("v", false, "print each run as it ends")
	flag.Parse()

	experiments := experiments()
	if *list {
		for _, e := range experiments {
			fmt.Printf("%-14s %s\n", e.name, e.what)
		}
		return 0
	}
	if *rows != "" {
		want := strings.Split(*rows, ",")
		for _, name := range want {
			if !slices.ContainsFunc(experiments, func(e experiment) bool { return e.name == name }) {
				fmt.Fprintf(os.Stderr, "bench: no row %q; -list names them\n", name)
				return 64
			}
		}
		experiments = slices.DeleteFunc(experiments, func(e experiment) bool { return !slices.Contains(want, e.name) })
	}

	// The first interrupt ends the run in order: servers stopped, file systems unmounted.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	base, clean, err := makeBase(*fsKind, *dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	defer clean()

	b := &bench{ctx: ctx, base: base, scale: *scale}
	kinds := strings.Split(*servers, ",")
	if slices.Contains(kinds, "postamt") {
		if b.bin, err = suite.Build(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
	}
	describe(base)
	fmt.Println()

	status := 0
	printHead()
	for _, e := range experiments {
		results := map[string]*samples{}
		for i := range *runs {
			for _, kind := range e.kinds {
				if !slices.Contains(kinds, kind) || ctx.Err() != nil || results[kind] != nil && results[kind].err != nil {
					continue
				}
				if results[kind] == nil {
					results[kind] = &samples{values: make([][]float64, len(e.figures))}
				}
				start := time.Now()
				values, err := e.run(b, kind)
				if err != nil {
					results[kind].err = err
					fmt.Fprintf(os.Stderr, "bench: %s: %s: %v\n", e.name, kind, err)
					status = 1
					continue
				}
				results[kind].add(values)
				if *verbose {
					fmt.Fprintf(os.Stderr, "%s %s run %d: %.4g (%.1fs in all)\n", e.name, kind, i+1, values, time.Since(start).Seconds())
				}
			}
		}
		if ctx.Err() != nil {
			fmt.Fprintln(os.Stderr, "bench: interrupted")
			return 130
		}
		printRow(e, results)
	}
	return status
}
