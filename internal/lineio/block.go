package lineio

import "sync"

// size is one of three sizes of buffers.
type size uint8

const (
	small  size = iota // for a command, where a buffer must be held while waiting
	medium             // for commands that have arrived, small messages, and to send
	large              // for the bulk of a message
)

// block is a buffer that came from a pool and returns to it.
type block struct {
	b    []byte
	size size
}

// The pools are shared by all connections of the process: that an idle one holds nothing is the point of them. They are the only state of this package,
// and invisible: the garbage collector empties them.
var pools = [...]sync.Pool{
	small:  {New: func() any { return &block{make([]byte, 512), small} }},
	medium: {New: func() any { return &block{make([]byte, 16<<10), medium} }},
	large:  {New: func() any { return &block{make([]byte, MaxLine), large} }},
}

func getBlock(s size) *block { return pools[s].Get().(*block) }

func (b *block) put() { pools[b.size].Put(b) }
