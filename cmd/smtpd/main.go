// Smtpd takes mail by SMTP into the queue. See smtpd(8).
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
	"postamt/internal/smtpd"
)

// Exit codes: sysexits(3).
const (
	exUsage  = 64
	exOSErr  = 71
	exConfig = 78
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("smtpd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("C", "", "configuration file")
	notify := flags.Int("notify", 0, "descriptor to tell readiness on")
	err := flags.Parse(args)
	unix.Umask(0o007) // what the modes of queue files want: any other costs an fchmod for each message
	p := daemon.Start(*notify)
	if err != nil || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: smtpd [-C file] [-notify fd]")
		return exUsage
	}
	log := p.Log("auto", "smtpd")
	defer func() { log.Close() }()

	c, err := config.Load(config.Path(*file))
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	if c.Log != "auto" {
		log.Close()
		log = p.Log(c.Log, "smtpd")
	}
	sockets, err := p.Open(daemon.Want{Own: c.SmtpdListen, Kind: smtpd.MX, SocketMode: 0666,
		Kinds: []string{smtpd.MX, smtpd.Submission, smtpd.Submissions, smtpd.Local}})
	if err != nil {
		log.Problems("listen", err)
		return exOSErr
	}
	is := confine.Smtpd(c)
	if err := is.Become(sockets.How == "own"); err != nil {
		log.Problems("become smtpd_user", err)
		return exConfig
	}
	if err := is.Keys(); err != nil {
		log.Problems("start", err)
		return exOSErr
	}
	s, code := newService(c, log)
	if s == nil {
		return code
	}
	s.is = is
	if err := is.Enter(log, sockets.Conn != nil, s.lists...); err != nil {
		log.Problems("sandbox", err)
		return exOSErr
	}
	ctx := p.Signals(daemon.Hooks{Reload: s.reload})
	p.Ready()
	left := s.serve(ctx, sockets, p.Stopping)
	log.Stop("signal", left)
	return 0
}
