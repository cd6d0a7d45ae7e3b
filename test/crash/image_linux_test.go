package crash

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// record is one entry of a block log.
type record struct {
	recordHead
	data []byte
}

// readBlockLog returns all of a log.
func readBlockLog(t testing.TB, path string) []record {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []record
	for r := bytes.NewReader(b); r.Len() > 0; {
		var rec record
		if err := binary.Read(r, binary.LittleEndian, &rec.recordHead); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		at := len(b) - r.Len()
		rec.data = b[at : at+int(rec.Size)]
		r.Seek(int64(rec.Size), 1)
		all = append(all, rec)
	}
	return all
}

// platter is one disk of a recording, as a power cut may leave it. Cuts are asked for in the order of the log.
type platter struct {
	disk    byte   // its number in the log
	stable  string // image: what no cut that is still to come can take away
	applied int    // records up to here are in stable
}

// sector is what a disk writes whole or not at all, for our purpose.
const sector = 4 << 10

// how a cut treats what was not flushed.
type loss int

const (
	loseNothing loss = iota // this disk's power stayed on
	loseWrites              // each write is there or not
	loseSectors             // each sector of each write is there or not
)

func (l loss) String() string { return [...]string{"lose none", "lose writes", "lose sectors"}[l] }

// cut writes to path what the disk holds if the power goes after the first n records of log: all that a flush covers, and of
// each later write perhaps something. It returns how many writes were not flushed.
func (p *platter) cut(t testing.TB, log []record, n int, how loss, r *rand.Rand, path string) (pending int) {
	t.Helper()
	flushed := p.applied
	for i := p.applied; i < n; i++ {
		if log[i].Kind == recordFlush && log[i].Disk == p.disk {
			flushed = i + 1
		}
	}
	p.apply(t, p.stable, log[p.applied:flushed], loseNothing, nil)
	p.applied = flushed
	tool(t, "cp", "--sparse=auto", p.stable, path)
	return p.apply(t, path, log[flushed:n], how, r)
}

func (p *platter) apply(t testing.TB, path string, log []record, how loss, r *rand.Rand) (writes int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, rec := range log {
		if rec.Kind != recordWrite || rec.Disk != p.disk {
			continue
		}
		writes++
		unit := len(rec.data)
		if how == loseSectors {
			unit = sector
		}
		for at := 0; at < len(rec.data); at += unit {
			if how != loseNothing && r.IntN(2) == 0 {
				continue
			}
			if _, err := f.WriteAt(rec.data[at:min(at+unit, len(rec.data))], rec.Offset+int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return writes
}

// scratchDir is a directory for images, in memory where there is some: hundreds of cuts copy them.
func scratchDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "cut-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Clean(dir)
}
