//go:build !linux

package mailbox

func populate([]byte) {}
