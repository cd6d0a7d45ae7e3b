package authd

import (
	"context"
	"errors"
	"fmt"

	"postamt/internal/password"
	"postamt/internal/textfile"
	"postamt/internal/userdb"
)

// UsersFile is a Source: a file of users(5).
type UsersFile struct{ f textfile.File[*userdb.Table] }

// NewUsersFile makes one. report is told of what is wrong in the file, each time that it is read.
func NewUsersFile(path string, report func(error)) *UsersFile {
	return &UsersFile{textfile.File[*userdb.Table]{Path: path, Max: userdb.MaxFile, Report: report,
		Parse: func(path, text string) (*userdb.Table, error) {
			t, problems, err := userdb.ParseSecrets(path, text)
			if err != nil {
				return nil, err
			}
			for _, p := range problems {
				report(p)
			}
			return t, nil
		}}}
}

func (u *UsersFile) String() string { return "users file " + u.f.Path }

// Open reads the file, for a program that starts: the error says why it cannot be used.
func (u *UsersFile) Open() error {
	_, err := u.f.Get()
	return err
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
	stored, err := password.Parse(t.Password(name))
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %s: password: %w", u.f.Path, user.Line, name, err)
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

// Sample is the password of somebody in the file that was made to be slow to check, the zero value if there is none: the
// work that most logins here will cost.
func (u *UsersFile) Sample() password.Stored {
	t, err := u.f.Get()
	if err != nil {
		return password.Stored{}
	}
	looked := 0
	for name := range t.Names() {
		if s, err := password.Parse(t.Password(name)); err == nil && s.Costly() {
			return s
		}
		if looked++; looked == 1000 {
			break
		}
	}
	return password.Stored{}
}
