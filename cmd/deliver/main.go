// Deliver stores mail in maildirs: as an LMTP service, or as a filter. See deliver(8).
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"postamt/internal/config"
	"postamt/internal/daemon"
	"postamt/internal/monitor"
	"postamt/internal/privilege"
)

// Exit codes: sysexits(3).
const (
	exOK       = 0
	exUsage    = 64
	exData     = 65
	exNoUser   = 67
	exOSErr    = 71
	exIOErr    = 74
	exTempFail = 75
	exConfig   = 78
)

const usage = `usage: deliver [-C file] [-notify fd]
       deliver [-C file] [-a extension] [-d address] [-f sender] user < message`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	// A file size limit is to be an error of write, not our end. Caught, not ignored: commands would ignore it too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGXFSZ)
	if link, err := monitor.Inherited(); link != nil || err != nil {
		return split.Part(link, err)
	}
	flags := flag.NewFlagSet("deliver", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("C", "", "configuration file")
	notify := flags.Int("notify", 0, "descriptor to tell readiness on")
	var e envelope
	flags.StringVar(&e.extension, "a", "", "extension of the address")
	flags.StringVar(&e.to, "d", "", "recipient, for Delivered-To")
	flags.Func("f", "envelope sender", func(s string) error { e.from, e.fromGiven = s, true; return nil })
	err := flags.Parse(args)
	if err != nil || flags.NArg() > 1 || flags.NArg() == 0 && e != (envelope{}) || flags.NArg() == 1 && *notify != 0 {
		fmt.Fprintln(os.Stderr, usage)
		return exUsage
	}
	if flags.NArg() == 1 {
		e.user = flags.Arg(0)
		return filter(config.Path(*file), e, os.Stdin, os.Stderr)
	}
	return lmtp(daemon.Start(*notify), config.Path(*file))
}

// lmtp runs the service: configuration, listeners, split or sandbox, serve.
func lmtp(p *daemon.Process, file string) int {
	log := p.Log("auto", "deliver")
	defer func() { log.Close() }()
	c, err := config.Load(file)
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	if c.Log != "auto" {
		log.Close()
		log = p.Log(c.Log, "deliver")
	}
	sockets, err := p.Open(want(c))
	if err != nil {
		log.Problems("listen", err)
		return exOSErr
	}
	if privilege.Root() && c.LoginUser != "" {
		return watch(p, c, sockets, log)
	}
	s, err := newService(c, log)
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	if privilege.Root() { // who has nobody to run commands as
		err = confine(c, privilege.Sandbox{Write: []string{"/"}})
	} else if err = (privilege.Limits{}).Set(); err == nil {
		// Commands of alias and forward files would run in this process's walls. It has none but that: whoever started it is who they run as.
		err = privilege.NoNew()
	}
	if err != nil {
		log.Problems("sandbox", err)
		return exOSErr
	}
	ctx := p.Signals(daemon.Hooks{Reload: s.reload})
	p.Ready()
	left := s.serve(ctx, sockets, p.Stopping)
	log.Stop("signal", left)
	return exOK
}
