// Command open opens a maildir as a server of ours does, twice, and says what each opening took: the first in a new process, the second in one that runs.
// It is for test/bench, until imapd is there to be asked.
//
//	open MAILDIR
//
// A line is the number of messages and the nanoseconds from the begin of Open to what SELECT has to know: UIDVALIDITY, the next UID, the number
// of messages, keywords. The first line is written before the second opening begins.
package main

import (
	"fmt"
	"os"
	"time"

	"postamt/internal/durable"
	"postamt/internal/mailbox"
)

func main() {
	for range 2 {
		if err := open(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "open:", err)
			os.Exit(1)
		}
	}
}

func open(path string) error {
	begun := time.Now()
	root, err := durable.OpenDir(path)
	if err != nil {
		return err
	}
	defer root.Close()
	b, err := mailbox.Open(root, "", mailbox.Options{})
	if err != nil {
		return err
	}
	defer b.Close()
	_, _, _, messages := b.Status()
	if _, err := b.Keywords(); err != nil {
		return err
	}
	fmt.Println(messages, time.Since(begun).Nanoseconds())
	return nil
}
