package lineio

import "io"

// ChunkReader reads a counted number of bytes, as they are (RFC 3030 BDAT, an IMAP literal). As with DotReader, no line can be read before its end.
type ChunkReader struct {
	c    *Conn
	left int64
}

// Chunk begins the reading of exactly n bytes.
func (c *Conn) Chunk(n int64) *ChunkReader {
	if n > 0 {
		c.stop = errBody
		c.size = medium
	}
	return &ChunkReader{c, n}
}

// Next returns the next block, never empty and never beyond max bytes, valid until the next call of a method of the connection. io.EOF after the last,
// io.ErrUnexpectedEOF when the connection ended before. After a timeout it may be called again.
func (k *ChunkReader) Next() ([]byte, error) { return k.next(MaxLine) }

func (k *ChunkReader) next(max int) ([]byte, error) {
	if k.left <= 0 {
		return nil, io.EOF
	}
	if k.c.Buffered() == 0 {
		if err := k.c.fill(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	b := k.c.unread()
	b = b[:min(int64(len(b)), int64(max), k.left)]
	k.c.r += len(b)
	k.left -= int64(len(b))
	if k.left == 0 {
		k.c.stop = nil
	}
	return b, nil
}

// Read implements io.Reader.
func (k *ChunkReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := k.next(len(p))
	return copy(p, b), err
}

// WriteTo implements io.WriterTo: each block goes to w as it lies in the buffer.
func (k *ChunkReader) WriteTo(w io.Writer) (int64, error) { return writeBlocks(w, k.Next) }
