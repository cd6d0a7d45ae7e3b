package lineio

import "net"

// Write gathers p, to be sent when the buffer is full, at Flush or when a read would wait. A large p is sent at once, after what was gathered, without a copy.
// After the first error nothing more is sent and every call returns it.
func (c *Conn) Write(p []byte) (int, error) {
	if c.werr != nil {
		return 0, c.werr
	}
	total := len(p)
	if room := c.outRoom(); len(p) > room {
		if len(p) >= cap(c.out.b)/2 {
			return total, c.send(p)
		}
		c.n += copy(c.out.b[c.n:], p)
		p = p[room:]
		if err := c.Flush(); err != nil {
			return 0, err
		}
		c.bulk = true
		c.outRoom()
	}
	c.n += copy(c.out.b[c.n:], p)
	return total, nil
}

// WriteString is Write for a string.
func (c *Conn) WriteString(s string) (int, error) {
	total := len(s)
	for {
		if c.werr != nil {
			return 0, c.werr
		}
		c.outRoom()
		k := copy(c.out.b[c.n:], s)
		c.n += k
		if s = s[k:]; s == "" {
			return total, nil
		}
		if err := c.Flush(); err != nil {
			return 0, err
		}
	}
}

// Err is the first failure to write.
func (c *Conn) Err() error { return c.werr }

// Flush sends what was gathered.
func (c *Conn) Flush() error {
	c.bulk = false
	if c.werr != nil {
		return c.werr
	}
	if c.n == 0 {
		return nil
	}
	return c.send(nil)
}

// outRoom is the free space of the write buffer, of which there is one afterwards.
func (c *Conn) outRoom() int {
	if c.out == nil {
		size := medium
		if c.bulk {
			size = large
		}
		c.out = getBlock(size)
	}
	return len(c.out.b) - c.n
}

// send writes what was gathered and then p, and gives the buffer back. Where half of it may have been sent, nothing can follow: its error is final.
func (c *Conn) send(p []byte) error {
	c.werr = c.armWrite()
	if c.werr == nil {
		if c.n > 0 && len(p) > 0 {
			v := net.Buffers{c.out.b[:c.n], p} // writev(2) where the transport has it
			_, c.werr = v.WriteTo(c.nc)
		} else {
			if c.n > 0 {
				p = c.out.b[:c.n]
			}
			_, c.werr = c.nc.Write(p)
		}
	}
	c.dropOut()
	return c.werr
}

func (c *Conn) dropOut() {
	if c.out != nil {
		c.out.put()
		c.out, c.n = nil, 0
	}
}

// WriteByte is Write for one byte.
func (c *Conn) WriteByte(b byte) error {
	if c.werr != nil {
		return c.werr
	}
	if c.outRoom() == 0 {
		if err := c.Flush(); err != nil {
			return err
		}
		c.outRoom()
	}
	c.out.b[c.n] = b
	c.n++
	return nil
}
