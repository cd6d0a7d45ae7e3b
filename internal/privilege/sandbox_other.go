//go:build !linux

package privilege

// NoNew does nothing here.
func NoNew() error { return nil }

// Undumpable does nothing here.
func Undumpable() error { return nil }

// Enter does nothing here and says so.
func (s Sandbox) Enter() (string, error) { return "none", nil }
