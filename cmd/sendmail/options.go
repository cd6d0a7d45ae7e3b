package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// mode is what is asked for.
type mode int

const (
	deliver    mode = iota
	session         // -bs
	list            // -bp, mailq
	newaliases      // -bi
	verify          // -bv
	test            // -bt
	flush           // -q, runq
	uucp            // rmail
	daemon          // -bd
)

// onError is what becomes of a message that is refused: -oe.
type onError byte

const (
	printError onError = 'p'
	quietError onError = 'q'
	mailError  onError = 'm'
	laterError onError = 'e' // mail, and exit 0
)

// options are the arguments of a call.
type options struct {
	mode       mode
	conf       string
	fromHeader bool    // -t
	ignoreDots bool    // -i
	from       *string // -f
	name       string  // -F
	onError    onError
	notify     []string // -N
	ret        string   // -R
	envID      string   // -V
	verbose    bool
	operands   []string
}

const usage = `usage: sendmail [-itv] [-f address] [-F name] [-C file] [-N dsn] [-R full | hdrs] [-V envid] [-oe mode] [-O option=value] [--] [address ...]
       sendmail -bs | -bp | -bi | -q | -bv address ... | -bt address ...
       mailq | newaliases | runq | rmail address ...`

// Options of other sendmails that have an argument, and those that have none. What they do is theirs; nothing of it names a file here, nor does
// -O DeadLetterDrop: by a script that is careless with a stranger's address, he would choose what is written where.
const (
	withArgument    = "ABbCDeFfhLMNOopRrVX"
	withoutArgument = "cEGIiJmnsTtUvx"
)

// parse reads a command line. Options end at the first argument that does not begin with "-", and at "--": an address that a script puts behind those can never be an option.
func parse(name string, args []string) (*options, error) {
	o := &options{onError: printError}
	switch name {
	case "mailq":
		o.mode = list
	case "newaliases":
		o.mode = newaliases
	case "runq":
		o.mode = flush
	case "rmail":
		o.mode, o.ignoreDots = uucp, true
	}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			o.operands = args
			return o, o.check()
		}
		for i := 1; i < len(arg); i++ {
			c, rest := arg[i], arg[i+1:]
			if c == 'q' || c == 'd' { // what they have is never apart
				if c == 'q' && o.mode != daemon {
					o.mode = flush
				}
				break
			}
			if strings.IndexByte(withoutArgument, c) >= 0 {
				o.flag(c)
				continue
			}
			if strings.IndexByte(withArgument, c) < 0 {
				return nil, fmt.Errorf("unknown option -%c\n%s", c, usage)
			}
			if rest == "" {
				if len(args) == 0 {
					return nil, fmt.Errorf("option -%c needs an argument\n%s", c, usage)
				}
				rest, args = args[0], args[1:]
			}
			if err := o.value(c, rest); err != nil {
				return nil, err
			}
			break
		}
	}
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			return nil, fmt.Errorf("%q stands behind an address: options come first, and addresses that begin with \"-\" behind \"--\"", a)
		}
	}
	o.operands = args
	return o, o.check()
}

func (o *options) flag(c byte) {
	switch c {
	case 'i':
		o.ignoreDots = true
	case 't':
		o.fromHeader = true
	case 'v':
		o.verbose = true
	case 'I':
		o.mode = newaliases
	}
}

func (o *options) value(c byte, v string) error {
	switch c {
	case 'b':
		modes := map[string]mode{"m": deliver, "a": deliver, "s": session, "p": list, "i": newaliases, "v": verify, "t": test, "d": daemon, "D": daemon, "l": daemon}
		m, ok := modes[v]
		if !ok && v != "h" && v != "H" {
			return fmt.Errorf("unknown mode -b%s\n%s", v, usage)
		}
		if ok {
			o.mode = m
		}
	case 'C':
		o.conf = v
	case 'f', 'r':
		o.from = &v
	case 'F':
		if strings.ContainsFunc(v, unicode.IsControl) {
			return fmt.Errorf("-F: %q is no name", v)
		}
		o.name = v
	case 'e':
		return o.errorMode(v)
	case 'o':
		switch {
		case v == "i":
			o.ignoreDots = true
		case strings.HasPrefix(v, "e"):
			return o.errorMode(v[1:])
		}
	case 'O':
		return o.long(v)
	case 'N':
		o.notify = strings.Split(strings.ToUpper(v), ",")
		for i, n := range o.notify {
			if !slices.Contains([]string{"SUCCESS", "FAILURE", "DELAY"}, n) && !strings.EqualFold(v, "never") || slices.Index(o.notify, n) < i {
				return fmt.Errorf("-N: %q is neither never nor a list of success, failure and delay", v)
			}
		}
	case 'R':
		o.ret = strings.ToUpper(v)
		if o.ret != "FULL" && o.ret != "HDRS" {
			return fmt.Errorf("-R: %q is neither full nor hdrs", v)
		}
	case 'V':
		if len(v) > 100 || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) { // RFC 3461 section 4.4
			return fmt.Errorf("-V: %q is no envelope id", v)
		}
		o.envID = v
	}
	return nil
}

func (o *options) errorMode(v string) error {
	switch v {
	case "p", "q", "m", "e":
		o.onError = onError(v[0])
	case "w":
		o.onError = mailError
	default:
		return fmt.Errorf("unknown error mode -oe%s\n%s", v, usage)
	}
	return nil
}

// long takes an option by its name.
func (o *options) long(s string) error {
	name, v, _ := strings.Cut(s, "=")
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "errormode":
		return o.errorMode(v[:min(1, len(v))])
	case "ignoredots":
		o.ignoreDots = v == "" || v[0] == 't' || v[0] == 'T'
	}
	return nil
}

// check looks at the whole.
func (o *options) check() error {
	if o.fromHeader {
		// BusyBox crond says "-ti oem".
		o.operands = slices.DeleteFunc(slices.Clone(o.operands), func(a string) bool {
			if a == "oem" {
				o.onError = mailError
			}
			return a == "oem"
		})
	}
	switch o.mode {
	case deliver:
		if !o.fromHeader && len(o.operands) == 0 {
			return errors.New("no recipients: name them, or say -t\n" + usage)
		}
	case uucp, verify, test:
		if len(o.operands) == 0 && o.mode != test {
			return errors.New("no addresses\n" + usage)
		}
	}
	return nil
}
