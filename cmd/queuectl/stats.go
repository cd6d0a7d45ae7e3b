package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postamt/internal/queue"
)

// ages are the heads of the columns, in minutes, as those of qshape(1); in the last column is what is older.
var ages = [...]int{5, 10, 20, 40, 80, 160, 320, 640, 1280}

// shape is a line: how many of each age.
type shape struct {
	domain string
	total  int
	counts [len(ages) + 1]int
}

func (s *shape) add(age time.Duration) {
	i := 0
	for i < len(ages) && age > time.Duration(ages[i])*time.Minute {
		i++
	}
	s.counts[i]++
	s.total++
}

// stats counts recipients, or senders, by domain and age. It keeps a line for each domain.
func stats(c *command) error {
	flags := c.flags()
	var f filter
	f.addTo(flags)
	sender := flags.Bool("sender", false, "")
	asJSON := flags.Bool("json", false, "")
	if err := c.parse(flags, 0, 0); err != nil {
		return err
	}
	if err := f.done(flags); err != nil {
		return err
	}
	q, err := c.queue()
	if err != nil {
		return err
	}
	defer q.Close()
	all := &shape{domain: "TOTAL"}
	by := make(map[string]*shape)
	err = f.look(q, false, func(l *queue.Listed, _ []queue.Note) error {
		age := f.now.Sub(l.Envelope.Arrived)
		count := func(address string) {
			domain := domainOf(address)
			s := by[domain]
			if s == nil {
				s = &shape{domain: strings.Clone(domain)} // not the envelope that it is part of
				by[s.domain] = s
			}
			s.add(age)
			all.add(age)
		}
		if l.Err != nil {
			return nil
		}
		if *sender {
			count(l.Envelope.From)
			return nil
		}
		for i := range l.Envelope.Rcpts {
			if r := &l.Envelope.Rcpts[i]; r.State == queue.Pending {
				count(r.Addr)
			}
		}
		return nil
	})
	shapes := make([]*shape, 0, len(by))
	for _, s := range by {
		if s.domain == "" {
			s.domain = "<>"
		}
		shapes = append(shapes, s)
	}
	slices.SortFunc(shapes, func(a, b *shape) int { return cmp.Or(cmp.Compare(b.total, a.total), cmp.Compare(a.domain, b.domain)) })
	shapes = append([]*shape{all}, shapes...)
	if *asJSON {
		for _, s := range shapes {
			c.out.Write(appendJSON(nil, struct {
				Domain string `json:"domain"`
				Total  int    `json:"total"`
				Ages   []int  `json:"ages"`
			}{s.domain, s.total, s.counts[:]}))
		}
		return err
	}
	c.out.Write(appendShapes(nil, shapes))
	return err
}

func appendShapes(b []byte, shapes []*shape) []byte {
	width := 20
	for _, s := range shapes {
		width = max(width, len(s.domain))
	}
	last := ages[len(ages)-1]
	b = fmt.Appendf(b, "%*s %5s", width, "", "T")
	for _, a := range ages {
		b = fmt.Appendf(b, " %5d", a)
	}
	b = fmt.Appendf(b, " %5s\n", strconv.Itoa(last)+"+")
	for _, s := range shapes {
		b = fmt.Appendf(b, "%*s %5d", width, appendText(nil, s.domain), s.total)
		for _, n := range s.counts {
			b = fmt.Appendf(b, " %5d", n)
		}
		b = append(b, '\n')
	}
	return b
}
