package authd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"postamt/internal/password"
	"postamt/internal/textfile"
	"postamt/internal/userdb"
)

// System is a Source: the accounts of passwd(5) and shadow(5). It reads the two files and asks no library: accounts that
// only a directory service knows need a checkpassword program.
type System struct {
	passwd textfile.File[map[string]userdb.User]
	shadow textfile.File[map[string]shadowLine]
	minUID userdb.ID
	now    func() time.Time
}

// shadowLine is what shadow(5) says, in days since 1970; 0 is not said.
type shadowLine struct {
	hash                  string
	changed, max, expires int64
	unchanged             bool // shadow(5): changed is written as 0, the password is to be changed before it is used
}

// maxAccounts bounds what is read of either file, in octets.
const maxAccounts = 64 << 20

// NewSystem makes one of the two files. Accounts with a uid below minUID do not exist for it: nobody's mailbox is that of
// a daemon, and root's password is not to be guessed here.
func NewSystem(passwd, shadow string, minUID userdb.ID, report func(error)) *System {
	return &System{minUID: minUID, now: time.Now,
		passwd: textfile.File[map[string]userdb.User]{Path: passwd, Max: maxAccounts, Report: report, Parse: parsePasswd},
		shadow: textfile.File[map[string]shadowLine]{Path: shadow, Max: maxAccounts, Report: report, Parse: parseShadow},
	}
}

func (s *System) String() string { return "system accounts" }

// Find is Source's.
func (s *System) Find(_ context.Context, name string) (*Account, error) {
	users, err := s.passwd.Get()
	if err != nil {
		return nil, err
	}
	u, ok := users[name]
	if !ok || u.UID < max(s.minUID, 1) || u.GID == 0 {
		return nil, ErrUnknown
	}
	a := &Account{User: u}
	lines, err := s.shadow.Get()
	if err != nil {
		return nil, err
	}
	l := lines[name]
	if a.Password, err = password.Parse(l.hash); err != nil {
		return nil, fmt.Errorf("%s: %s: password: %w", s.shadow.Path, name, err)
	}
	today := s.now().Unix() / (24 * 60 * 60)
	a.Disabled = l.expires > 0 && today >= l.expires
	a.Expired = l.unchanged || l.max > 0 && l.changed > 0 && today > l.changed+l.max
	return a, nil
}

// List is Source's.
func (s *System) List(ctx context.Context, each func(string) error) error {
	users, err := s.passwd.Get()
	if err != nil {
		return err
	}
	for name, u := range users {
		if u.UID < max(s.minUID, 1) || u.GID == 0 {
			continue
		}
		if err := errors.Join(ctx.Err(), each(name)); err != nil {
			return err
		}
	}
	return nil
}

// parsePasswd reads "name:x:uid:gid:gecos:home:shell" lines. Lines that are none are the system's business.
func parsePasswd(_, text string) (map[string]userdb.User, error) {
	users := make(map[string]userdb.User)
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) != 7 {
			continue
		}
		name, err := userdb.Canonical(f[0])
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err != nil || name != f[0] || err1 != nil || err2 != nil || !filepath.IsAbs(f[5]) {
			continue // capital letters in a name: a mail address cannot tell such accounts apart
		}
		if _, known := users[name]; !known { // as getpwnam(3): the first holds
			users[name] = userdb.User{Name: name, UID: userdb.ID(uid), GID: userdb.ID(gid), Home: filepath.Clean(f[5])}
		}
	}
	if len(users) == 0 && text != "" {
		return nil, errors.New("no account in it")
	}
	return users, nil
}

// parseShadow reads "name:hash:changed:min:max:warn:inactivity:expires:" lines.
func parseShadow(_, text string) (map[string]shadowLine, error) {
	lines := make(map[string]shadowLine)
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) < 8 {
			continue
		}
		if _, known := lines[f[0]]; !known {
			days := func(s string) int64 { n, _ := strconv.ParseInt(s, 10, 32); return n }
			lines[f[0]] = shadowLine{f[1], days(f[2]), days(f[4]), days(f[7]), f[2] == "0"}
		}
	}
	return lines, nil
}
