// Authd says who exists and whether a password is right. See authd(8).
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"postamt/internal/authd"
	"postamt/internal/config"
	"postamt/internal/confine"
	"postamt/internal/daemon"
)

// Exit codes: sysexits(3).
const (
	exUsage      = 64
	exData       = 65
	exNoInput    = 66
	exOSErr      = 71
	exCantCreate = 73
	exConfig     = 78
)

const usage = `usage: authd [-C file] [-notify fd]
       authd [-C file] passwd [-s scheme] [-d] user
       authd hash [-s scheme]`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 1 && args[0] == checked {
		return authd.Checked()
	}
	flags := flag.NewFlagSet("authd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("C", "", "configuration file")
	notify := flags.Int("notify", 0, "descriptor to tell readiness on")
	err := flags.Parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, usage)
		return exUsage
	}
	switch flags.Arg(0) {
	case "":
	case "passwd":
		return passwd(config.Path(*file), flags.Args()[1:])
	case "hash":
		return hash(flags.Args()[1:])
	default:
		fmt.Fprintln(os.Stderr, usage)
		return exUsage
	}

	unix.Umask(0o077)
	p := daemon.Start(*notify)
	log := p.Log("auto", "authd")
	defer func() { log.Close() }()
	c, err := config.Load(config.Path(*file))
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	if c.Log != "auto" {
		log.Close()
		log = p.Log(c.Log, "authd")
	}
	sockets, err := p.Open(daemon.Want{Own: c.AuthListen, Kind: kindClient, Kinds: []string{kindClient, kindUsers}, SocketMode: 0o660})
	if err != nil {
		log.Problems("listen", err)
		return exOSErr
	}
	is := confine.Authd(c)
	if err := is.Become(sockets.How == "own"); err != nil {
		log.Problems("become auth_user", err)
		return exConfig
	}
	s, code := newService(c, log)
	if s == nil {
		return code
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
