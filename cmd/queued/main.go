// Queued owns the queue: it expands, routes, attempts, records and bounces. See queued(8).
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"postamt/internal/config"
	"postamt/internal/confine"
	"postamt/internal/daemon"
	"postamt/internal/queue"
)

// Exit codes: sysexits(3).
const (
	exProblems = 1
	exUsage    = 64
	exOSErr    = 71
	exTempFail = 75
	exConfig   = 78
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("queued", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("C", "", "configuration file")
	notify := flags.Int("notify", 0, "descriptor to tell readiness on")
	check := flags.Bool("check", false, "verify the queue and exit")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: queued [-C file] [-notify fd]\n       queued [-C file] -check")
		return exUsage
	}
	unix.Umask(0o007)
	if *check {
		return checkQueue(config.Path(*file))
	}
	p := daemon.Start(*notify)
	log := p.Log("auto", "queued")
	defer func() { log.Close() }()
	c, err := config.Load(config.Path(*file))
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	if c.Log != "auto" {
		log.Close()
		log = p.Log(c.Log, "queued")
	}
	wake, err := daemon.ListenDatagram(filepath.Join(c.RunDir, "queued"), 0o660)
	if err != nil {
		if errors.Is(err, daemon.ErrInUse) {
			log.Problem("", "lock queue", fmt.Errorf("%w: %v", queue.ErrLocked, err))
			return exTempFail
		}
		log.Problems("listen", err)
		return exOSErr
	}
	is := confine.Queued(c)
	if err := is.Become(true); err != nil {
		log.Problems("become queue_user", err)
		return exConfig
	}
	s, code := newService(c, queue.NewWakeups(wake), log)
	if s == nil {
		return code
	}
	s.is = is
	is.Dials(s.tables.Load().Current().Routes.Sockets()...)
	if err := is.Enter(log, false, s.tables.Load().Lists()...); err != nil {
		log.Problems("sandbox", err)
		return exOSErr
	}
	ctx := p.Signals(daemon.Hooks{Reload: s.reload, Dump: s.dump, Flush: s.server.Flush})
	log.Start(daemon.Version(), c.QueueDir)
	beat := p.Beat()
	s.server.Watch(beat.Every(), beat.Round)
	p.Ready()
	s.serve(ctx, p.Stopping)
	log.Stop("signal", 0)
	return 0
}

// checkQueue prints what is wrong with the files of the queue, one line each.
func checkQueue(file string) int {
	c, err := config.Load(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "queued:", err)
		return exConfig
	}
	q, err := queue.Open(c.QueueDir, queue.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "queued:", c.Where(err))
		return exOSErr
	}
	defer q.Close()
	problems, err := q.Check()
	for _, p := range problems {
		fmt.Printf("%s: %s\n", p.Path, p.What)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "queued:", err)
		return exOSErr
	case len(problems) > 0:
		return exProblems
	}
	return 0
}
