// Pop3d serves maildrops by POP3. See pop3d(8).
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"postamt/internal/config"
	"postamt/internal/daemon"
	"postamt/internal/monitor"
	"postamt/internal/pop3d"
	"postamt/internal/privilege"
)

// Exit codes: sysexits(3).
const (
	exOK       = 0
	exUsage    = 64
	exOSErr    = 71
	exTempFail = 75
	exConfig   = 78
)

const usage = `usage: pop3d [-C file] [-notify fd]
       pop3d [-C file] -session [maildir]`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if link, err := monitor.Inherited(); link != nil || err != nil {
		return split.Part(link, err)
	}
	flags := flag.NewFlagSet("pop3d", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("C", "", "configuration file")
	notify := flags.Int("notify", 0, "descriptor to tell readiness on")
	alone := flags.Bool("session", false, "serve who has logged in already, on standard input and output")
	err := flags.Parse(args)
	if err != nil || flags.NArg() > 1 || flags.NArg() == 1 && !*alone {
		fmt.Fprintln(os.Stderr, usage)
		return exUsage
	}
	p := daemon.Start(*notify)
	log := p.Log("auto", "pop3d")
	defer func() { log.Close() }()
	c, err := config.Load(config.Path(*file))
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	if c.Log != "auto" {
		log.Close()
		log = p.Log(c.Log, "pop3d")
	}
	if *alone {
		return session(c, log, flags.Arg(0))
	}
	sockets, err := p.Open(want(c))
	if err != nil {
		log.Problems("listen", err)
		return exOSErr
	}
	if privilege.Root() && c.LoginUser != "" {
		return watch(p, c, sockets, log)
	}
	s, err := newWhole(c, log)
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	if err := confineWorker(c); err != nil {
		log.Problems("sandbox", err)
		return exOSErr
	}
	ctx := p.Signals(daemon.Hooks{Reload: s.reload})
	p.Ready()
	left := s.serve(ctx, sockets, p.Stopping)
	log.Stop("signal", left)
	return exOK
}

func want(c *config.Config) daemon.Want {
	return daemon.Want{Own: c.Pop3dListen, Kind: pop3d.POP3, Kinds: []string{pop3d.POP3, pop3d.POP3S}, SocketMode: 0o666}
}
