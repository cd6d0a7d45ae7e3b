// Keyd holds the private keys of TLS and signs for other programs. See keyd(8).
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"postamt/internal/config"
	"postamt/internal/confine"
	"postamt/internal/daemon"
	"postamt/internal/keyd"
)

// Exit codes: sysexits(3).
const (
	exUsage  = 64
	exOSErr  = 71
	exConfig = 78
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("keyd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("C", "", "configuration file")
	notify := flags.Int("notify", 0, "descriptor to tell readiness on")
	err := flags.Parse(args)
	unix.Umask(0o077)
	p := daemon.Start(*notify)
	if err != nil || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: keyd [-C file] [-notify fd]")
		return exUsage
	}
	log := p.Log("auto", "keyd")
	defer func() { log.Close() }()

	c, err := config.Load(config.Path(*file))
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	if c.Log != "auto" {
		log.Close()
		log = p.Log(c.Log, "keyd")
	}
	// Anybody may connect; the kernel says who he is.
	sockets, err := p.Open(daemon.Want{Own: []config.Listener{{Network: "unix", Address: keyd.Socket(c), Kind: "keyd"}},
		Kind: "keyd", Kinds: []string{"keyd"}, SocketMode: 0o666})
	if err != nil {
		log.Problems("listen", err)
		return exOSErr
	}
	is := confine.Keyd(c)
	if err := is.Become(sockets.How == "own"); err != nil {
		log.Problems("become keyd_user", err)
		return exConfig
	}
	s, err := newService(c, log)
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	s.is = is
	if err := is.Enter(log, sockets.Conn != nil); err != nil {
		log.Problems("sandbox", err)
		return exOSErr
	}
	ctx := p.Signals(daemon.Hooks{Reload: s.reload})
	p.Ready()
	left := s.serve(ctx, sockets, p.Stopping)
	log.Stop("signal", left)
	return 0
}
