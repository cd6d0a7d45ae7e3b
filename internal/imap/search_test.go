package imap

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
)

func key(t *testing.T, s string) SearchKey {
	d := arguments(t, s, 0)
	k := d.SearchKeys()
	if err := d.End(); err != nil {
		t.Errorf("%s: %v", s, err)
	}
	return k
}

func TestSearch(t *testing.T) {
	one := NumSet{Ranges: []NumRange{{1, 1}}}
	flag := func(s string) SearchKey { return SearchKey{Op: SearchFlag, Name: s} }
	not := func(k SearchKey) SearchKey { k.Not = !k.Not; return k }
	all := SearchKey{}
	for in, want := range map[string]SearchKey{
		"ALL": all, "answered": flag(`\Answered`), "UNSEEN": not(flag(`\Seen`)), "NOT UNSEEN": flag(`\Seen`), "NOT NOT NOT DRAFT": not(flag(`\Draft`)), "OLD": not(flag(`\Recent`)),
		"KEYWORD $Junk": flag("$Junk"), "UNKEYWORD x": not(flag("x")), "1": {Op: SearchSeq, Set: one}, "NOT 1": {Op: SearchSeq, Set: one, Not: true}, "$": {Op: SearchSeq, Set: NumSet{Saved: true}}, "UID 1": {Op: SearchUID, Set: one},
		"*":                    {Op: SearchSeq, Set: NumSet{Ranges: []NumRange{{0, 0}}}},
		`FROM "Smith"`:         {Op: SearchHeader, Name: "FROM", Text: "Smith"},
		`HEADER Message-ID ""`: {Op: SearchHeader, Name: "Message-ID"},
		"TEXT {6+}\r\nstring":  {Op: SearchText, Text: "string"}, "BODY {2+}\r\n\xff\xfe": {Op: SearchBody, Text: "\xff\xfe"},
		"SINCE 1-Feb-1994": {Op: SearchSince, Date: Date{1994, 2, 1}}, `SENTON "1-Feb-1994"`: {Op: SearchSentOn, Date: Date{1994, 2, 1}}, "SAVEDBEFORE 1-Feb-1994": {Op: SearchSavedBefore, Date: Date{1994, 2, 1}},
		"UIDAFTER 5": {Op: SearchUID, Set: NumSet{Ranges: []NumRange{{6, math.MaxUint32}}}}, "UIDAFTER 4294967295": {Op: SearchUID},
		"UIDBEFORE 5": {Op: SearchUID, Set: NumSet{Ranges: []NumRange{{1, 4}}}}, "UIDBEFORE 1": {Op: SearchUID},
		"SAVEDATESUPPORTED": {Op: SearchSaveDateSupported}, "LARGER 50000": {Op: SearchLarger, Number: 50000}, "SMALLER 9223372036854775807": {Op: SearchSmaller, Number: 1<<63 - 1}, "OLDER 604800": {Op: SearchOlder, Number: 604800}, "YOUNGER 1": {Op: SearchYounger, Number: 1},
		`MODSEQ "/flags/\\draft" all 620162338`: {Op: SearchModSeq, Number: 620162338}, "MODSEQ 0": {Op: SearchModSeq}, "EMAILID M6d99ac3275bb4e": {Op: SearchEmailID, Text: "M6d99ac3275bb4e"}, "THREADID T1": {Op: SearchThreadID, Text: "T1"}, "FILTER on-the-road": {Op: SearchFilter, Text: "on-the-road"},
		"NEW":                        {Op: SearchAnd, Keys: []SearchKey{flag(`\Recent`), not(flag(`\Seen`))}},
		"FLAGGED 1":                  {Op: SearchAnd, Keys: []SearchKey{flag(`\Flagged`), {Op: SearchSeq, Set: one}}},
		"(FLAGGED)":                  {Op: SearchAnd, Keys: []SearchKey{flag(`\Flagged`)}},
		"NOT (FLAGGED 1)":            {Op: SearchAnd, Not: true, Keys: []SearchKey{flag(`\Flagged`), {Op: SearchSeq, Set: one}}},
		"OR ALL NOT SEEN":            {Op: SearchOr, Keys: []SearchKey{all, not(flag(`\Seen`))}},
		"OR ALL OR SEEN DRAFT":       {Op: SearchOr, Keys: []SearchKey{all, flag(`\Seen`), flag(`\Draft`)}},
		"OR OR ALL SEEN DRAFT":       {Op: SearchOr, Keys: []SearchKey{{Op: SearchOr, Keys: []SearchKey{all, flag(`\Seen`)}}, flag(`\Draft`)}},
		"OR ALL NOT OR SEEN DRAFT":   {Op: SearchOr, Keys: []SearchKey{all, {Op: SearchOr, Not: true, Keys: []SearchKey{flag(`\Seen`), flag(`\Draft`)}}}},
		`FUZZY (SUBJECT "x" FROM y)`: {Op: SearchAnd, Fuzzy: true, Keys: []SearchKey{{Op: SearchHeader, Name: "SUBJECT", Text: "x"}, {Op: SearchHeader, Name: "FROM", Text: "y"}}},
		"FUZZY NOT FUZZY SEEN":       {Op: SearchFlag, Name: `\Seen`, Not: true, Fuzzy: true},
	} {
		if got := key(t, in); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", in, got, want)
		}
	}
	for op, word := range map[SearchOp]string{SearchBefore: "BEFORE", SearchOn: "ON", SearchSince: "SINCE", SearchSentBefore: "SENTBEFORE", SearchSentOn: "SENTON", SearchSentSince: "SENTSINCE",
		SearchSavedBefore: "SAVEDBEFORE", SearchSavedOn: "SAVEDON", SearchSavedSince: "SAVEDSINCE"} {
		if got := key(t, word+" 1-Feb-1994"); !reflect.DeepEqual(got, SearchKey{Op: op, Date: Date{1994, 2, 1}}) {
			t.Errorf("%s: %+v", word, got)
		}
	}
	for name, word := range map[string]string{`\Answered`: "ANSWERED", `\Deleted`: "DELETED", `\Draft`: "DRAFT", `\Flagged`: "FLAGGED", `\Seen`: "SEEN"} {
		if !reflect.DeepEqual(key(t, word), flag(name)) || !reflect.DeepEqual(key(t, "UN"+word), not(flag(name))) {
			t.Errorf("%s: %+v, %+v", word, key(t, word), key(t, "UN"+word))
		}
	}
	var ops []SearchOp
	k := key(t, "OR (1 SEEN) NOT UID 2 ALL")
	k.Walk(func(k *SearchKey) { ops = append(ops, k.Op) })
	if want := []SearchOp{SearchAnd, SearchOr, SearchAnd, SearchSeq, SearchFlag, SearchUID, SearchAll}; !reflect.DeepEqual(ops, want) {
		t.Errorf("%v, want %v", ops, want)
	}
	if !reflect.DeepEqual(key(t, "RECENT"), flag(`\Recent`)) {
		t.Error("RECENT")
	}
	for _, word := range []string{"BCC", "CC", "FROM", "SUBJECT", "TO"} {
		if got := key(t, word+" x"); !reflect.DeepEqual(got, SearchKey{Op: SearchHeader, Name: word, Text: "x"}) {
			t.Errorf("%s: %+v", word, got)
		}
	}
	check(t, 0, []row{
		{"search-program", func(d *Decoder) any { c, k := d.SearchProgram(); return fmt.Sprint(c, k.Op) }, map[string]any{"CHARSET utf-8 TEXT x": fmt.Sprint("UTF-8", SearchText), `charset "US-ASCII" ALL`: fmt.Sprint("US-ASCII", SearchAll), "ALL": fmt.Sprint("", SearchAll)},
			[]string{"", "CHARSET", "CHARSET UTF-8", "CHARSET UTF-8 ", "FOO", "ALL ", "ALL  ALL", "NOT", "NOT ", "OR ALL", "OR", "OR ALL ", "()", "(ALL", "(ALL ", "ALL)", "0", "1:", "$1", "KEYWORD", "FROM", "FROM (x)", "HEADER x", "UID", "UID x",
				"SINCE x", "LARGER -1", "LARGER 9223372036854775808", "OLDER 0", "MODSEQ x", `MODSEQ "x" all 1`, `MODSEQ "/flags/x" foo 1`, "SUBJECT NIL(", "CHARSET UTF-8 CHARSET UTF-8 ALL", strings.Repeat("X", 40) + "(ALL)", "FUZZY", "TEXT ~{1+}\r\nx"}},
		{"search-return-opts", func(d *Decoder) any { d.pos--; return d.SearchReturn() }, map[string]any{
			"RETURN ()":                       SearchReturn{Given: true, All: true},
			"return (min MAX COUNT SAVE)":     SearchReturn{Given: true, Min: true, Max: true, Count: true, Save: true},
			"RETURN (ALL RELEVANCY CONTEXT)":  SearchReturn{Given: true, All: true, Relevancy: true, Context: true},
			"RETURN (PARTIAL -1:-100 UPDATE)": SearchReturn{Given: true, Update: true, Partial: &PartialRange{1, 100, true}},
			"RETURN (UPDATE (FLAGS) COUNT)":   SearchReturn{Given: true, Update: true, UpdateItems: items(FetchFlags).Items, Count: true},
			"RETURN (UPDATE(UID))":            SearchReturn{Given: true, Update: true, UpdateItems: items(FetchUID).Items},
		}, []string{"RETURN (FOO)", "RETURN (", "RETURN ( )", "RETURN (ALL PARTIAL 1:2)", "RETURN (PARTIAL 1:2 PARTIAL 1:2)", "RETURN (MIN) ", "RETURN x", "RETURN (UPDATE ())"}},
		{"sort-criteria", func(d *Decoder) any { return d.SortKeys() }, map[string]any{
			"(SUBJECT REVERSE DATE)": []SortKey{{SortSubject, false}, {SortDate, true}},
			"(arrival cc from size to displayfrom reverse displayto relevancy)": []SortKey{{SortArrival, false}, {SortCc, false}, {SortFrom, false}, {SortSize, false}, {SortTo, false}, {SortDisplayFrom, false}, {SortDisplayTo, true}, {SortRelevancy, false}},
		}, []string{"", "()", "(REVERSE)", "(REVERSE REVERSE DATE)", "(FOO)", "DATE"}},
		{"esearch-source", func(d *Decoder) any { d.pos--; return d.SearchSource() }, map[string]any{
			`IN (mailboxes "folder1" subtree "folder2")`: []MailboxFilter{{FilterMailboxes, []string{"folder1"}}, {FilterSubtree, []string{"folder2"}}},
			`IN (subtree-one (a b) selected)`:            []MailboxFilter{{FilterSubtreeOne, []string{"a", "b"}}, {FilterSelected, nil}},
		}, []string{"IN ()", "IN (selected-delayed)", "IN (foo)", "IN (mailboxes)", "IN (mailboxes ())", "IN selected"}},
	})
}
