package lmtpd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/forward"
	"postamt/internal/maildir"
	"postamt/internal/smtp"
)

// forward looks at the forward file of a recipient's user, if the client can do what it says. A reply that is not nil is what the recipient is answered, with
// 551 nothing being wrong.
func (s *session) forward(to Rcpt, box *Mailbox) (*smtp.Reply, error) {
	name, named := strings.CutPrefix(to.Target, smtp.InForward)
	// Of what is not there any more the mailbox takes the place: the user has mended his file, and is not to lose what waited for that. Another line
	// of it may have had the message stored there before.
	gone := func() (*smtp.Reply, error) {
		s.tx.params.Suspect = true
		return nil, nil
	}
	if named && (s.srv.Forwards == nil || box.Home == "") {
		return gone()
	}
	if s.srv.Forwards == nil || box.Home == "" || to.Target != "" && !named || !s.tx.params.Expand && !named {
		return nil, nil
	}
	f, err := s.srv.Forwards.Look(box.Home, box.Target.Tag)
	if err != nil {
		s.srv.Log.Problem(s.id, "forward", err)
		return nil, BadForward(err)
	}
	if f != nil {
		if i := slices.IndexFunc(f.Targets, func(t alias.Target) bool { return t.Kind == alias.Bad }); i >= 0 {
			// Before anything is done that the file says: it would be done again at each attempt until somebody has mended the line.
			_, err := standsFor(&f.Targets[i], to.Addr, box)
			return nil, err
		}
	}
	switch {
	case f != nil && to.Target == smtp.WholeFile:
		box.Steps = f.Targets
		return nil, nil
	case named:
		if f != nil {
			if t, err := FindTarget(f.Targets, name); err == nil {
				box.SetTarget(t)
				return nil, nil
			}
		}
		return gone()
	case f == nil:
		return nil, nil
	}
	lines, err := StandFor(f, to.Addr, box)
	if err != nil || len(lines) == 1 && lines[0] == smtp.JustMailbox {
		return nil, err
	}
	return &smtp.Reply{Code: 551, Enhanced: smtp.EnhancedCode{5, 1, 6}, Lines: lines}, nil
}

// BadForward is what mail is told for a user whose forward file cannot be used.
func BadForward(err error) *smtp.Reply {
	return smtp.NewReply(451, "4.3.5", "the forward file of this user cannot be used: "+err.Error())
}

// StandFor is what the forward file of the user of box says to mail for an address: a line for each of its targets, or smtp.WholeFile alone. The error is a *smtp.Reply.
func StandFor(f *forward.File, to addr.Mailbox, box *Mailbox) (lines []string, err error) {
	for i := range f.Targets {
		t := &f.Targets[i]
		line, err := standsFor(t, to, box)
		if err != nil {
			return nil, err
		}
		if f.QMail && t.Kind == alias.Pipe {
			return []string{smtp.WholeFile}, nil
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// standsFor is the line of one target.
func standsFor(t *alias.Target, to addr.Mailbox, box *Mailbox) (string, error) {
	switch t.Kind {
	case alias.File:
		if filepath.Clean(t.Text) == box.Target.Path {
			return smtp.JustMailbox, nil
		}
		return smtp.InForward + t.Name(), nil
	case alias.Pipe:
		return smtp.InForward + t.Name(), nil
	case alias.Address:
		return inAddress(t.Addr, t.Final), nil
	case alias.Local:
		local, _, _ := strings.Cut(box.User, "@")
		if strings.EqualFold(t.Addr.Local, local) {
			return smtp.JustMailbox, nil
		}
		return inAddress(addr.Mailbox{Local: t.Addr.Local, Domain: to.Domain}, t.Final), nil
	case alias.Blackhole:
		return smtp.Discarded, nil
	case alias.Fail:
		return "", smtp.NewReply(550, "5.1.1", "this user takes no mail: "+t.Text)
	case alias.Defer:
		return "", smtp.NewReply(450, "4.2.0", "this user takes no mail now: "+t.Text)
	}
	return "", smtp.NewReply(451, "4.3.5", "the forward file of this user has a mistake in line "+strings.TrimPrefix(t.Pos.String(), t.Pos.File+":")+": "+t.String())
}

// inAddress is the line for an address, which must be one: longer replies are broken. So the domain is in A-labels, of which there are 255 octets at most.
func inAddress(m addr.Mailbox, final bool) string {
	if d, err := addr.ASCIIDomain(m.Domain); err == nil {
		m.Domain = d
	}
	b := []byte(smtp.InAddress)
	if final {
		b = append(b, '\\')
	}
	return string(smtp.AppendXtext(b, m.String()))
}

// FindTarget finds a command or file by its name. Whoever wrote the file may have mended it while mail waited: if there is just one of the kind now, it is meant. The
// error is a *smtp.Reply.
func FindTarget(list []alias.Target, name string) (alias.Target, error) {
	if t, ok := alias.Named(list, name); ok {
		return t, nil
	}
	var only alias.Target
	n := 0
	kind, _, _ := strings.Cut(name, "-")
	for _, t := range list {
		if strings.HasPrefix(t.Name(), kind+"-") {
			only = t
			n++
		}
	}
	if n != 1 {
		return only, smtp.NewReply(550, "5.1.1", "the command or file that this mail was for is not named any more")
	}
	return only, nil
}

// Trusted tells why nothing that an alias file names may be done: what it may have done is what its owner may, who is root, or whom we run as. Whoever else may write to
// it could become the user of its commands.
func Trusted(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to uid %d: no command or file in it is delivered to (chown root mends it)", path, st.Uid)
	case info.Mode()&0o022 != 0:
		return fmt.Errorf("%s: others than its owner may write it: no command or file in it is delivered to (chmod go-w mends it)", path)
	}
	return nil
}

// UntrustedAlias is what mail is then told.
func UntrustedAlias() *smtp.Reply {
	return smtp.NewReply(451, "4.3.5", "the alias file is not safe, and waits to be mended")
}

// NoUserID is what mail is told that runs something for a user without a user id of his own: he shares one with others, whose mail his commands could read.
func NoUserID() *smtp.Reply {
	return smtp.NewReply(451, "4.3.5", "commands are only run for users with a user id of their own")
}

// SetTarget makes a command or file where the mail goes, instead of the maildir.
func (b *Mailbox) SetTarget(t alias.Target) {
	b.Target = maildir.Target{}
	switch path := t.Text; {
	case t.Kind == alias.Pipe:
		b.Command = t.Text
	case strings.HasSuffix(path, "/"):
		path = filepath.Clean(path)
		b.Target = maildir.Target{Owner: path, Path: path, Base: filepath.Dir(path)}
	default:
		b.File = path
	}
}
