package monitor

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// A worker gives a client back to the front that pumps (IMAP's UNAUTHENTICATE). What it says for the client ends with one octet that a descriptor comes with,
// which is in no other octets of a session's: nothing that anybody writes can be mistaken for it. Then
//
//	front    brings no more from the client, and ends what goes to the worker
//	worker   reads to that end, and returns all that the client sent and it has not used: 4 octets, how much that is, and those
//	front    puts it before what the client sends from then on
//
// That the worker says truthfully what the client has sent cannot be seen. What it could put into his mouth is what leads to a login, and that wants a password or a certificate of
// his; what comes of it is another session, in which this worker has no part.

// MaxBack is the most that can be given back with a client.
const MaxBack = 64 << 10

// GiveBack gives the client of a Pumped session back to the front, after the last word to him was written to Conn. unused is what was read from Conn and not used.
func (s Session) GiveBack(unused []byte) error {
	c, ok := s.Conn.(*net.UnixConn)
	if !s.Pumped || !ok {
		return errors.New("monitor: a client who came himself cannot be given back")
	}
	c.SetDeadline(time.Now().Add(linger))
	if _, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(0), nil); err != nil { // any descriptor: the null device
		return err
	}
	rest, err := io.ReadAll(io.LimitReader(c, MaxBack+1))
	if err != nil {
		return err
	}
	b := make([]byte, 4, 4+len(unused)+len(rest))
	b = append(append(b, unused...), rest...)
	if len(b)-4 > MaxBack {
		return errors.New("monitor: a client who has sent too much to be given back")
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	_, err = c.Write(b)
	return err
}

// takeBack reads what a worker returns.
func takeBack(worker net.Conn) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(worker, 4+MaxBack+1))
	if err == nil && (len(b) < 4 || len(b) > 4+MaxBack || int(binary.LittleEndian.Uint32(b)) != len(b)-4) {
		err = errRecord
	}
	if err != nil {
		return nil, err
	}
	return b[4:], nil
}

// receive reads like read(2), and says whether a descriptor came with it. It is not kept.
func receive(fd int, b, oob []byte) (n int, given bool, err error) {
	n, k, flags, _, err := unix.Recvmsg(fd, b, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || k == 0 && flags&unix.MSG_CTRUNC == 0 {
		return n, false, err
	}
	msgs, _ := unix.ParseSocketControlMessage(oob[:k])
	for i := range msgs {
		fds, _ := unix.ParseUnixRights(&msgs[i])
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	return n, true, nil
}
