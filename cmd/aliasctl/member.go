package main

import (
	"errors"
	"os"
	"strings"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/pipe"
	"postamt/internal/textfile"
)

// subscribe adds members to a list file.
func subscribe(c *command) error {
	if len(c.args) < 2 {
		return errUsage
	}
	return c.editList(func(text string) (string, error) { return alias.Subscribe(c.args[0], text, c.args[1:]) })
}

var errNoMember = errors.New("no such member")

// unsubscribe takes members off. Without any it is the command of an alias, told by its address who leaves: "user=domain=token", which was looked at when the mail was
// accepted. Then it is no error that he has left before: somebody has clicked twice.
func unsubscribe(c *command) error {
	if len(c.args) == 0 {
		return errUsage
	}
	leave := make(map[string]bool)
	for _, a := range c.args[1:] {
		t, err := alias.ParseTarget(a)
		if err == nil && t.Kind != alias.Address && t.Kind != alias.Local {
			err = errors.New("not an address or a name")
		}
		if err != nil {
			c.fail(exDataErr, "%s: %v", clean(a), err)
			return nil
		}
		leave[member(t.Addr)] = true
	}
	if len(leave) == 0 {
		tag := os.Getenv("EXTENSION")
		i := strings.LastIndexByte(tag, '=')
		if i <= 0 {
			c.fail(exNoUser, "nobody is named: the address in the message from the list says who")
			return nil
		}
		leave[strings.ToLower(tag[:i])] = true
	}
	n := 0
	err := c.editList(func(text string) (out string, err error) {
		out, n, err = alias.Unsubscribe(c.args[0], text, func(t alias.Target) bool {
			return (t.Kind == alias.Address || t.Kind == alias.Local) && leave[member(t.Addr)]
		})
		if err == nil && n == 0 {
			err = errNoMember
		}
		return out, err
	})
	if n == 0 && c.code == exNone && len(c.args) == 1 {
		c.code = 0
	}
	return err
}

// member is an address as the environment of a command has it in a tag.
func member(m addr.Mailbox) string {
	if m.Domain == "" {
		return strings.ToLower(m.Local)
	}
	return strings.ToLower(pipe.Clean(m.AsTag()))
}

func (c *command) editList(change func(text string) (string, error)) error {
	path := c.args[0]
	write := textfile.Edit
	if c.dry {
		write = c.pretend
	}
	var refusal error
	switch err := write(path, textfile.Owner{Mode: 0o644, UID: -1, GID: -1}, func(text string) (out string, err error) {
		out, refusal = change(text)
		return out, refusal
	}); {
	case err == nil:
	case errors.Is(err, errNoMember):
		c.fail(exNone, "%s: %v", path, err)
	case refusal != nil:
		c.fail(exDataErr, "%s: %v", path, err)
	default:
		c.fail(exCantCreate, "%v", err)
	}
	return nil
}
