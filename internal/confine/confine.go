// Package confine says who each program is once it serves, and what it may still touch: the values that package privilege enforces.
// All of them stand here, side by side, so that one reads in one place what a captured program could do.
//
// A main does, in this order:
//
//	configuration; listeners, as whoever started it
//	confine.Smtpd(c)   the account of smtpd_user; what the program uses is looked at; groups, group and user ids are given away
//	its service        tables, keys, queue: opened as the account, because that is who will open them again after a change
//	Enter              limits, no_new_privs, Landlock, seccomp
//	ready, serve
//
// Without root, or where the key of the account is empty, nobody is become; all the rest is the same.
//
// What is granted is directories and not files: a file is replaced by a rename, and a rule would stay with the old one. So after a
// reload a program reads new files in the directories that it knew at its start; a configuration that needs another is refused (Covers).
package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"postamt/internal/config"
	"postamt/internal/maillog"
	"postamt/internal/privilege"
)

// Program is one of the suite, as it is to be when it serves.
type Program struct {
	conf     *config.Config
	key      string // that names its account
	account  string // its value; "" stays who it is
	secret   bool   // it holds what nobody else may see
	free     bool   // it executes programs that need whatever they need: only the account and the limits hold
	limits   privilege.Limits
	uses     []privilege.Use
	own      []place
	sockets  []string          // that it makes, for the group of clients
	clients  string            // an account; "" nobody but who made them
	sandbox  privilege.Sandbox // by files
	entered  privilege.Sandbox // by directories, of the start
	problems []error
}

// place is a directory that belongs to the program's account. One that is missing and has a mode is made.
type place struct {
	path string
	mode fs.FileMode
	hint fs.FileMode // of what is never made here, for the command that makes it
}

// Become checks what the program is about to use and makes it its account, for good. made says that it has made its sockets itself.
func (p *Program) Become(made bool) error {
	a, err := p.find(p.key, p.account)
	if err != nil {
		return err
	}
	if err := errors.Join(errors.Join(p.problems...), privilege.Check(p.uses...)); err != nil {
		return err
	}
	for _, o := range p.own {
		if err := o.prepare(a); err != nil {
			return err
		}
	}
	if made && privilege.Root() && p.clients != "" {
		c, err := p.find("the clients' account", p.clients)
		if err != nil {
			return err
		}
		for _, s := range p.sockets {
			if err := os.Chown(s, -1, int(c.GID)); err != nil {
				return fmt.Errorf("give the socket to its clients: %w", err)
			}
		}
	}
	if a != nil {
		if err := privilege.Drop(*a); err != nil {
			return err
		}
	}
	if p.secret { // after Drop: to change ids makes a process dumpable where fs.suid_dumpable says so
		return privilege.Undumpable()
	}
	return nil
}

// find is the account to become; nil without root, or without a name.
func (p *Program) find(key, name string) (*privilege.Account, error) {
	if !privilege.Root() || name == "" {
		return nil, nil
	}
	a, err := privilege.Find(name)
	if errors.Is(err, privilege.ErrNoAccount) {
		return nil, fmt.Errorf("%s: %w (useradd --system --user-group %s makes it)", key, err, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return &a, nil
}

// prepare makes the directory, or says how it has to be.
func (o place) prepare(a *privilege.Account) error {
	st, err := os.Stat(o.path)
	owner := ""
	if a != nil {
		owner = fmt.Sprintf("-o %d -g %d ", a.UID, a.GID)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.mode == 0 && a == nil:
		return nil // is said by who opens it
	case errors.Is(err, fs.ErrNotExist) && o.mode == 0:
		return fmt.Errorf("%s: missing; install -d %s-m %04o %[1]s mends it", o.path, owner, o.hint)
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(o.path), 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(o.path, o.mode); err != nil {
			return err
		}
		if a != nil {
			return os.Chown(o.path, int(a.UID), int(a.GID))
		}
		return nil
	case err != nil:
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && a != nil && sys.Uid != a.UID {
		return fmt.Errorf("%s: belongs to uid %d, not to %s; chown -R %d:%d %[1]s mends it", o.path, sys.Uid, a.Name, a.UID, a.GID)
	}
	return nil
}

// Enter gives away the rest, and logs what is left. more are files that it may read too. alone: it serves one connection, of which a line in the
// log at each start would be one too many.
func (p *Program) Enter(log *maillog.Logger, alone bool, more ...string) error {
	l := p.limits
	var st unix.Stat_t
	if unix.Fstat(2, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG || p.free {
		l.FileSize = 0 // a log that is a file is not to end at the size of a message
	}
	if err := l.Set(); err != nil {
		return err
	}
	by, box := "account", "anything"
	if !p.free {
		p.read(more...)
		s := p.rules()
		p.entered = s
		if err := privilege.NoNew(); err != nil {
			return err
		}
		var err error
		if by, err = s.Enter(); err != nil {
			return err
		}
		box = s.String()
	}
	if !alone {
		log.Confined(os.Geteuid(), by, box)
	}
	return nil
}

// rules are the sandbox by directories.
func (p *Program) rules() privilege.Sandbox {
	s := p.sandbox
	s.Read = directories(s.Read...)
	s.Sockets = directories(s.Sockets...)
	return s
}

// Covers says whether the program, which has entered, can be what another configuration makes of it: nothing that was given away can be
// had back, and mail or logins that fail one by one would be a poor way to tell.
func (p *Program) Covers(next *Program) error {
	switch s := next.rules(); {
	case p.free:
		return nil
	case next.free:
		return errors.New("it would execute programs, which the sandbox of its start forbids: restart it")
	case s.Connect && !p.entered.Connect || s.Bind && !p.entered.Bind:
		return errors.New("it would connect to other hosts, or from addresses, which the sandbox of its start forbids: restart it")
	default:
		beyond := func(what string, want []string, granted ...string) error {
			for _, d := range want {
				if !slices.ContainsFunc(granted, func(g string) bool { return d == g || strings.HasPrefix(d, g+"/") }) {
					return fmt.Errorf("%s %s: not granted by the sandbox of its start: restart it", what, d)
				}
			}
			return nil
		}
		return errors.Join(beyond("read", s.Read, slices.Concat(p.entered.Read, p.entered.Write)...), beyond("write", s.Write, p.entered.Write...),
			beyond("connect to sockets in", s.Sockets, p.entered.Sockets...))
	}
}

// directories are those that the files are in, each once: by name, and where symbolic links lead, as those of /etc/letsencrypt/live do.
// A directory stands for itself; one that may be missing has a slash at its end, or its parent would be meant.
func directories(paths ...string) []string {
	var dirs []string
	add := func(path string) {
		if st, err := os.Stat(path); strings.HasSuffix(path, "/") {
			path = filepath.Clean(path)
		} else if err != nil || !st.IsDir() {
			path = filepath.Dir(path)
		}
		if path != "/" && path != "." && !slices.Contains(dirs, path) {
			dirs = append(dirs, path)
		}
	}
	for _, p := range paths {
		if p == "" {
			continue
		}
		add(p)
		if real, err := filepath.EvalSymlinks(p); err == nil {
			add(real)
		} else if to, err := os.Readlink(p); err == nil { // what it leads to may come later
			if !filepath.IsAbs(to) {
				to = filepath.Join(filepath.Dir(p), to)
			}
			if d, err := filepath.EvalSymlinks(filepath.Dir(to)); err == nil { // the directories on the way may be links themselves
				to = filepath.Join(d, filepath.Base(to))
			}
			add(to)
		}
	}
	// What is below another is granted with it.
	return slices.DeleteFunc(slices.Clone(dirs), func(d string) bool {
		return slices.ContainsFunc(dirs, func(e string) bool { return len(d) > len(e) && d[:len(e)] == e && d[len(e)] == '/' })
	})
}
