package daemon

import "golang.org/x/sys/unix"

func peerCred(fd int) (Cred, error) {
	x, err := unix.GetsockoptXucred(fd, 0, unix.LOCAL_PEERCRED)
	if err != nil {
		return Cred{}, err
	}
	return Cred{UID: int(x.Uid), GID: int(x.Groups[0])}, nil
}
