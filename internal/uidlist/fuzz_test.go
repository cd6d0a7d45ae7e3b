package uidlist

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

func FuzzEntry(f *testing.F) {
	for _, s := range []string{"5 :a", "5 W1 P:x :a b:2,S", "5  Z  :a", "4294967295 :a", "5 a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "\n") {
			return
		}
		e, ok := parseEntry(line, 3)
		if !ok {
			return
		}
		again := e.append(nil)
		if got, ok := parseEntry(string(again[:len(again)-1]), 3); !ok || got != e || bytes.Count(again, []byte("\n")) != 1 {
			t.Errorf("%q is %+v is %q is %+v, %v", line, e, again, got, ok)
		}
	})
}

// M17. Whatever is in the file, it can be read or repaired, and then be written to.
func FuzzList(f *testing.F) {
	for _, s := range []string{"3 V7 N9\n1 :a\n2 W9 :b\n", "1 7 9\n1 a\n", "3 V7 N9\n2 :a\n1 :b\n2 :c\nx", "", "3 V7 N4294967295\n", "3 V7 N1\n4294967294 :a\n", "3 V7 N2\n1 :a\n1 :b\n1 :a\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		l, dir := folder(t, "")
		write(t, dir.Name()+"/"+listFile, string(list))
		tx := lock(t, l)
		defer unlock(t, tx)
		_, before, err := read(tx)
		if errors.Is(err, ErrDamaged) {
			if _, err := tx.Repair(0); err != nil {
				t.Fatal(err)
			}
			if _, _, err = read(tx); err != nil {
				t.Fatalf("repaired, but %v", err)
			}
		} else if err != nil {
			t.Fatal(err)
		}
		next := l.Header().Next
		e := []Entry{{Name: "new"}}
		if err := tx.Append(e); errors.Is(err, ErrExhausted) {
			return
		} else if err != nil || e[0].UID != next {
			t.Fatal(e, err)
		}
		_, after, err := read(New(dir, dir, nil))
		if err != nil || !strings.HasSuffix(after, fmt.Sprint(next, " new")) || err == nil && before != "" && strings.Contains(after, "new,") {
			t.Errorf("%q, then %q, %v", before, after, err)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	var list bytes.Buffer
	fmt.Fprintf(&list, "3 V7 N9 G%s\n", guid)
	const entries = 100_000
	for i := range entries {
		fmt.Fprintf(&list, "%d W%d :%d.Q0h2mc9x4rvk3t7w1qz8eX6b1f0c3a9d42.mx.example.org,S=4711,W=4823\n", i+1, i, 1764000000+i)
	}
	_, dir := folder(b, list.String())
	runtime.GC()
	for b.Loop() {
		n := 0
		l := New(dir, dir, nil)
		if _, err := l.Read(func(Entry) error { n++; return nil }); err != nil || n != entries {
			b.Fatal(n, err)
		}
	}
	b.SetBytes(int64(list.Len()))
}
