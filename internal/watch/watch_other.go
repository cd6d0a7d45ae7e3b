//go:build !linux && !darwin && !dragonfly && !freebsd && !netbsd && !openbsd

package watch

import (
	"errors"
	"os"
	"time"
)

type source struct{}

func open() (*source, error) { return nil, errors.ErrUnsupported }

func (s *source) add(dir *os.File) (int, error)         { return 0, errors.ErrUnsupported }
func (s *source) remove(id int)                         {}
func (s *source) wait(until time.Time) ([]event, error) { return nil, errors.ErrUnsupported }
func (s *source) stop()                                 {}
func (s *source) close()                                {}
