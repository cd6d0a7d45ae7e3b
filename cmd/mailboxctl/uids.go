package main

import (
	"bufio"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"postamt/internal/mailbox"
)

// splitUIDs takes the arguments that name messages from the front.
func splitUIDs(args []string) (sets, rest []string) {
	for i, a := range args {
		if a != "-" && (a == "" || strings.Trim(a, "0123456789:,*") != "") {
			return args[:i], args[i:]
		}
	}
	return args, nil
}

// span is a range of UIDs.
type span struct{ from, to uint32 }

// uids are those of the messages that the sets name, ascending.
func (c *command) uids(m *mailbox.Mailbox, sets []string) ([]uint32, error) {
	there := m.UIDs()
	highest := uint32(0)
	if len(there) > 0 {
		highest = there[len(there)-1]
	}
	var spans []span
	for _, set := range sets {
		if set == "-" {
			more, err := c.readUIDs()
			if err != nil {
				return nil, err
			}
			spans = append(spans, more...)
			continue
		}
		for part := range strings.SplitSeq(set, ",") {
			a, b, isRange := strings.Cut(part, ":")
			from, ok := number(a, highest)
			to, ok2 := from, true
			if isRange {
				to, ok2 = number(b, highest)
			}
			if !ok || !ok2 {
				return nil, failure{exUsage, fmt.Errorf("%q: a UID, or a range of UIDs, is wanted", part)}
			}
			spans = append(spans, span{min(from, to), max(from, to)})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var named []uint32
	i := 0
	for _, uid := range there { // both ascend
		for i < len(spans) && spans[i].to < uid {
			i++
		}
		if i < len(spans) && spans[i].from <= uid {
			named = append(named, uid)
		}
	}
	return named, nil
}

func number(s string, highest uint32) (uint32, bool) {
	if s == "*" {
		return highest, true
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n > 0 && n < math.MaxUint32
}

// readUIDs reads the first field of each line of standard input.
func (c *command) readUIDs() (spans []span, err error) {
	s := bufio.NewScanner(c.in)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		if len(fields) == 0 {
			continue
		}
		n, ok := number(fields[0], 0)
		if !ok || fields[0] == "*" {
			return nil, failure{exDataErr, fmt.Errorf("standard input: %q is no UID", clean(fields[0]))}
		}
		spans = append(spans, span{n, n})
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	return spans, nil
}
