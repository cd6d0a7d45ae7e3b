package queue

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The model: what a queue is to its users.
type modelMessage struct {
	states []byte
	text   string
	held   bool
	next   time.Time // zero: some time ago
	notes  int
	open   *Message // an attempt under way
}

// Random operations on a queue and on a map must agree, with restarts, with
// files left by crashes, and with people who use mv and rm.
func TestModel(t *testing.T) {
	// Each run syncs some hundred times: the usual 100 are for those who ask.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set("25")
		defer f.Value.Set(f.DefValue)
	}
	top := t.TempDir()

	rapid.Check(t, func(t *rapid.T) {

		dir := filepath.Join(top, string(NewID(time.Now())))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		q, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { q.Close() }()
		model := make(map[ID]*modelMessage)
		defer func() {
			for _, m := range model {
				if m.open != nil {
					m.open.Close()
				}
			}
		}()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		pick := func(t *rapid.T, ok func(m *modelMessage) bool) (ID, *modelMessage) {
			var ids []ID
			for id, m := range model {
				if ok(m) {
					ids = append(ids, id)
				}
			}
			if len(ids) == 0 {
				t.Skip("none")
			}
			slices.Sort(ids)
			id := rapid.SampledFrom(ids).Draw(t, "id")
			return id, model[id]
		}
		live := func(m *modelMessage) bool { return !m.held && m.open == nil }
		any := func(m *modelMessage) bool { return true }
		opened := func(m *modelMessage) bool { return m.open != nil }
		file := func(id ID, held bool) string {
			if held {
				return filepath.Join(dir, "hold", string(id))
			}
			return filepath.Join(dir, id.path())
		}
		create := func(t *rapid.T) (*Envelope, string) {
			e := envelope(manyRcpts(rapid.IntRange(1, 5).Draw(t, "recipients"))...)
			size := rapid.SampledFrom([]int{0, 100, 5000, small, small + 1, 3 * small}).Draw(t, "size")
			return e, strings.Repeat("x", size)
		}
		t.Repeat(map[string]func(*rapid.T){
			"accept": func(t *rapid.T) {
				e, text := create(t)
				must(tryPut(q, e, text))
				model[e.ID] = &modelMessage{states: []byte(strings.Repeat("-", len(e.Rcpts))), text: text}
			},
			"abort": func(t *rapid.T) {
				e, text := create(t)
				w, err := q.Create(e)
				must(err)
				w.Write([]byte(text))
				w.Abort()
			},
			"crash of a writer": func(t *rapid.T) {
				e, text := create(t)
				w, err := q.Create(e)
				must(err)
				w.Write([]byte(text))
				whole := rapid.Bool().Draw(t, "whole")
				switch {
				case whole:
					must(w.Commit())
					must(os.Chmod(file(e.ID, false), writingMode))
				case w.f != nil:
					w.f.Close() // and the file stays
					w.s = nil
				default:
					w.Abort()
					must(os.WriteFile(file(e.ID, false), []byte(magic), 0o600))
					must(os.Chmod(file(e.ID, false), writingMode))
				}
				adopted, err := q.Recover(e.ID)
				must(err)
				if adopted != whole {
					t.Fatalf("whole: %v, adopted: %v", whole, adopted)
				}
				if whole {
					model[e.ID] = &modelMessage{states: []byte(strings.Repeat("-", len(e.Rcpts))), text: text}
				}
			},
			"open": func(t *rapid.T) {
				id, m := pick(t, live)
				m.open, err = q.Message(id)
				must(err)
			},
			"mark": func(t *rapid.T) {
				_, m := pick(t, opened)
				marks := make(map[int]byte)
				for i := range m.states {
					if rapid.Bool().Draw(t, "mark") {
						marks[i] = rapid.SampledFrom([]byte("-DFX")).Draw(t, "state")
						m.states[i] = marks[i]
					}
				}
				must(m.open.Mark(marks, rapid.Bool().Draw(t, "sync")))
				m.next = time.Time{}
			},
			"close": func(t *rapid.T) {
				_, m := pick(t, opened)
				must(m.open.Close())
				m.open = nil
			},
			"defer": func(t *rapid.T) {
				_, m := pick(t, opened)
				at := time.Unix(rapid.Int64Range(1, 1<<33).Draw(t, "at"), 0).UTC()
				must(m.open.Defer(at))
				if !m.held {
					m.next = at
				}
			},
			"note": func(t *rapid.T) {
				id, m := pick(t, any)
				must(q.AppendLog(id, Note{Time: time.Now(), Event: "deferred"}))
				m.notes++
			},
			"remove": func(t *rapid.T) {
				id, m := pick(t, opened)
				marks := map[int]byte{0: Done}
				must(m.open.Remove(marks))
				must(m.open.Close())
				m.open = nil
				if m.held {
					m.states[0] = Done
					m.next = time.Time{} // the mark is younger than the time
				} else {
					delete(model, id)
				}
			},
			"hold": func(t *rapid.T) {
				id, m := pick(t, func(m *modelMessage) bool { return !m.held })
				must(q.Hold(id))
				m.held = true
			},
			"release": func(t *rapid.T) {
				id, m := pick(t, func(m *modelMessage) bool { return m.held })
				must(q.Release(id))
				m.held = false
			},
			"mv": func(t *rapid.T) {
				id, m := pick(t, any)
				must(os.Rename(file(id, m.held), file(id, !m.held)))
				m.held = !m.held
			},
			"rm": func(t *rapid.T) {
				id, m := pick(t, any)
				must(os.Remove(file(id, m.held)))
				if m.open != nil {
					must(m.open.Remove(nil))
					must(m.open.Close())
				} else {
					os.Remove(filepath.Join(dir, "log", string(id)))
				}
				delete(model, id)
			},
			"restart": func(t *rapid.T) {
				for _, m := range model {
					if m.open != nil {
						m.open.Close()
						m.open = nil
					}
				}
				must(q.Close())
				q, err = Open(dir, Options{})
				must(err)
				must(q.Lock())
			},
			"": func(t *rapid.T) {
				problems, err := q.Check()
				if len(problems) != 0 || err != nil {
					t.Fatal(problems, err)
				}
				found := make(map[ID]Entry)
				must(q.Scan(func(e Entry) bool { found[e.ID] = e; return true }))
				for id, m := range model {
					e, ok := found[id]
					if ok == m.held {
						t.Fatalf("%s: held %v, found %v", id, m.held, ok)
					}
					delete(found, id)
					notes, err := q.ReadLog(id)
					if len(notes) != m.notes || err != nil {
						t.Fatalf("%s: %d notes, not %d: %v", id, len(notes), m.notes, err)
					}
					if m.held {
						if _, err := q.Message(id); !errors.Is(err, ErrNotExist) {
							t.Fatal(err)
						}
						continue
					}
					if !m.next.IsZero() && !e.Next.Equal(m.next) || e.Writing {
						t.Fatalf("%+v, want %v", e, m.next)
					}
					got, err := q.Message(id)
					must(err)
					defer got.Close()
					if !got.Next.Equal(e.Next) || len(got.Envelope.Rcpts) != len(m.states) || got.Size != int64(len(m.text)) {
						t.Fatalf("%+v", got)
					}
					for i, r := range got.Envelope.Rcpts {
						if r.State != m.states[i] {
							t.Fatalf("recipient %d: %c, not %c", i, r.State, m.states[i])
						}
					}
				}
				if len(found) != 0 {
					t.Fatal("too much:", found)
				}
			},
		})
	})
}
