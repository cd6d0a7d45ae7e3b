package authd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"postamt/internal/password"
	"postamt/internal/textfile"
	"postamt/internal/userdb"
)

// UsersFile is a Source: a file of users(5), and that of its passwords if they have one of their own.
type UsersFile struct {
	f         textfile.File[*userdb.Table]
	passwords *textfile.File[*userdb.Passwords] // nil: they are in f
}

// NewUsersFile makes one; passwords is "" if they are with the users. report is told of what is wrong in the files, each time
// that they are read.
func NewUsersFile(users, passwords string, report func(error)) *UsersFile {
	parse := userdb.ParseSecrets
	if passwords != "" {
		parse = userdb.ParseApart
	}
	u := &UsersFile{f: textfile.File[*userdb.Table]{Path: users, Max: userdb.MaxFile, Report: report, Parse: reporting(parse, report)}}
	if passwords != "" {
		u.passwords = &textfile.File[*userdb.Passwords]{Path: passwords, Max: userdb.MaxFile, Report: report,
			Parse: reporting(userdb.ParsePasswords, report)}
	}
	return u
}

// reporting tells of problems that are no errors.
func reporting[T any](parse func(path, text string) (T, []userdb.Problem, error), report func(error)) func(path, text string) (T, error) {
	return func(path, text string) (T, error) {
		t, problems, err := parse(path, text)
		if err == nil {
			for _, p := range problems {
				report(p)
			}
		}
		return t, err
	}
}

func (u *UsersFile) String() string { return "users file " + u.f.Path }

// Open reads the files, for a program that starts: the error says why they cannot be used. Of passwords that everyone may read, and of those in clear, it
// says so: they are good ones all the same, and a file that is not read locks out everyone.
func (u *UsersFile) Open() error {
	t, err := u.f.Get()
	if err != nil {
		return err
	}
	of, where := t.Password, u.f.Path
	if u.passwords != nil {
		where = u.passwords.Path
		if st, err := os.Stat(where); err == nil && st.Mode().Perm()&0o004 != 0 {
			u.f.Report(fmt.Errorf("%s: everyone may read the passwords; chmod o-r %[1]s", where))
		}
		p, err := u.passwords.Get()
		if err != nil {
			return err
		}
		of = func(name string) string { text, _ := p.Of(name); return text }
	}
	if n := inClear(t, of); n > 0 {
		u.f.Report(fmt.Errorf("%s: passwords in clear, {PLAIN}: %d; whoever reads the file has them", where, n))
	}
	return nil
}

// inClear counts the users whose passwords are in clear.
func inClear(t *userdb.Table, of func(name string) string) (n int) {
	for name := range t.Names() {
		if s, err := password.Parse(of(name)); err == nil {
			if _, plain := s.Plain(); plain {
				n++
			}
		}
	}
	return n
}

// stored is the password of a user in the table, and where it stands.
func (u *UsersFile) stored(t *userdb.Table, name string) (text, file string, line int, err error) {
	if u.passwords == nil {
		return t.Password(name), u.f.Path, 0, nil
	}
	p, err := u.passwords.Get()
	if err != nil {
		return "", "", 0, err
	}
	text, line = p.Of(name)
	return text, u.passwords.Path, line, nil
}

// Find is Source's.
func (u *UsersFile) Find(_ context.Context, name string) (*Account, error) {
	t, err := u.f.Get()
	if err != nil {
		return nil, err
	}
	user, ok, err := t.Lookup(name)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, ErrUnknown
	}
	text, file, line, err := u.stored(t, name)
	if err != nil {
		return nil, err
	}
	stored, err := password.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %s: password: %w", file, cmp.Or(line, user.Line), name, err)
	}
	return &Account{User: user, Password: stored}, nil
}

// List is Source's.
func (u *UsersFile) List(ctx context.Context, each func(string) error) error {
	t, err := u.f.Get()
	if err != nil {
		return err
	}
	for name := range t.Names() {
		if err := errors.Join(ctx.Err(), each(name)); err != nil {
			return err
		}
	}
	return nil
}

// Sample is the password of somebody in the files that was made to be slow to check, the zero value if there is none: the
// work that most logins here will cost.
func (u *UsersFile) Sample() password.Stored {
	t, err := u.f.Get()
	if err != nil {
		return password.Stored{}
	}
	looked := 0
	for name := range t.Names() {
		text, _, _, err := u.stored(t, name)
		if err != nil {
			break
		}
		if s, err := password.Parse(text); err == nil && s.Costly() {
			return s
		}
		if looked++; looked == 1000 {
			break
		}
	}
	return password.Stored{}
}
