//go:build unix && !linux

package queue

import "errors"

func makeDevice(path string) error { return errors.ErrUnsupported }
