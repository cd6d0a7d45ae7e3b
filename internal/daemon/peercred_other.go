//go:build !linux && !freebsd

package daemon

import "errors"

func peerCred(int) (Cred, error) { return Cred{}, errors.ErrUnsupported }
