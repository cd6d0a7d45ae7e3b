package maildir

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"postamt/internal/durable"
)

// batchMin is the number of copies from which syncing the whole file system
// twice is quicker than syncing each file and directory. It also flushes what
// others have written, so it is not for few.
const batchMin = 16

// wave delivers some of the copies, the first of which has the number first.
func (d *Delivery) wave(wave []copyState, first int, seen map[string]int) {
	workers := min(runtime.GOMAXPROCS(0), 4)
	each(len(wave), workers, func(i int) {
		if c := &wave[i]; !c.final {
			c.prepare(d)
		}
	})
	var todo []*copyState
	for i := range wave {
		c := &wave[i]
		if c.final {
			continue
		}
		if twin, ok := seen[c.stem]; ok {
			c.twin = twin
			c.final = true
			c.discard()
			continue
		}
		seen[c.stem] = first + i
		todo = append(todo, c)
	}
	done := d.s.attempts.begin(todo, d.msg.ID)
	todo = d.batches(todo)
	each(len(todo), 8, func(i int) { todo[i].deliver(d) })
	done()
	for i := range wave {
		c := &wave[i]
		if c.box == nil {
			continue
		}
		if c.Err == nil && c.twin < 0 {
			d.s.sweepSometimes(c.box)
		}
		d.s.release(c.box)
		c.box = nil
	}
}

// batches delivers those copies that share a file system with many others, and
// returns the rest.
func (d *Delivery) batches(todo []*copyState) (rest []*copyState) {
	if len(todo) < batchMin {
		return todo
	}
	byDev := make(map[uint64][]*copyState)
	for _, c := range todo {
		byDev[c.box.dev] = append(byDev[c.box.dev], c)
	}
	for _, group := range byDev {
		if len(group) < batchMin || !durable.KeepsNames(group[0].box.new) {
			rest = append(rest, group...)
			continue
		}
		d.batch(group)
	}
	return rest
}

// batch delivers copies that are all on one file system: write all, sync it,
// rename all, sync it.
func (d *Delivery) batch(group []*copyState) {
	workers := min(runtime.GOMAXPROCS(0), 4)
	// syncfs reports each failed write once to each descriptor that was open
	// before it: so this is opened before the writes, and is ours alone, lest
	// another batch is told of our error and we are not.
	dir, err := openDir(group[0].box.new, ".")
	if err != nil {
		for _, c := range group {
			c.fail("open", err)
			c.discard()
		}
		return
	}
	defer dir.Close()
	step := func(f func(c *copyState)) {
		each(len(group), workers, func(i int) {
			if c := group[i]; !c.final {
				f(c)
			}
		})
	}
	flush := func() error {
		d.s.syncs <- struct{}{}
		defer func() { <-d.s.syncs }()
		return d.s.ops.Syncfs(dir)
	}
	step(func(c *copyState) {
		if c.look(d) {
			return
		}
		if c.write(d) == nil {
			c.closeFile()
		}
	})
	err = flush()
	if errors.Is(err, errors.ErrUnsupported) {
		// A kernel before Linux 5.8: the steps one by one, after all.
		step(func(c *copyState) {
			f, err := openFile(c.box.tmp, c.temp)
			if err != nil {
				c.fail("sync", err)
				c.discard()
				return
			}
			c.file = f
			c.store(d)
		})
		return
	}
	step(func(c *copyState) {
		if err != nil {
			c.fail("sync", err)
			c.discard()
			return
		}
		c.box.settled()
		c.publish()
	})
	err = flush()
	step(func(c *copyState) {
		if err != nil {
			c.fail("sync new", err)
			c.Unknown = true
			return
		}
		c.done()
	})
}

// each calls f for 0 to n-1, from several goroutines at once.
func each(n, workers int, f func(i int)) {
	if n < 2 || workers < 2 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, workers) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}
