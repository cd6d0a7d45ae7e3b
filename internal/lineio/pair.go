package lineio

import (
	"net"
	"os"
	"time"
)

// Pair makes a connection of two files, one to read and one to write: descriptors 0 and 1 of a program under tcpserver, sshd or a pipe. They may be the same file.
// Deadlines work where the files are pollable (see os.File.SetDeadline) and are an error elsewhere. The addresses are of network "pair".
func Pair(r, w *os.File) net.Conn { return &pair{r, w} }

type pair struct{ r, w *os.File }

func (p *pair) Read(b []byte) (int, error)         { return p.r.Read(b) }
func (p *pair) Write(b []byte) (int, error)        { return p.w.Write(b) }
func (p *pair) LocalAddr() net.Addr                { return pairAddr(p.r.Name()) }
func (p *pair) RemoteAddr() net.Addr               { return pairAddr(p.w.Name()) }
func (p *pair) SetReadDeadline(t time.Time) error  { return p.r.SetReadDeadline(t) }
func (p *pair) SetWriteDeadline(t time.Time) error { return p.w.SetWriteDeadline(t) }

func (p *pair) SetDeadline(t time.Time) error {
	if err := p.r.SetReadDeadline(t); err != nil {
		return err
	}
	return p.w.SetWriteDeadline(t)
}

func (p *pair) Close() error {
	err := p.w.Close()
	if p.r != p.w {
		if e := p.r.Close(); err == nil {
			err = e
		}
	}
	return err
}

type pairAddr string

func (pairAddr) Network() string  { return "pair" }
func (a pairAddr) String() string { return string(a) }
