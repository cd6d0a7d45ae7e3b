package imap

import (
	"strings"
	"testing"
)

func fetch(d *Decoder) any { return d.Fetch() }

func items(kinds ...FetchKind) (f Fetch) {
	for _, k := range kinds {
		f.Items = append(f.Items, FetchItem{Kind: k})
	}
	return f
}

func TestFetch(t *testing.T) {
	body := func(peek bool, s Section) Fetch {
		return Fetch{Items: []FetchItem{{Kind: FetchSection, Peek: peek, Section: s}}}
	}
	changed := items(FetchFlags)
	changed.ChangedSince, changed.Vanished = 12345, true
	partial := items(FetchUID, FetchFlags)
	partial.Partial = &PartialRange{First: 1, Last: 30, FromEnd: true}
	preview := items(FetchPreview)
	preview.ChangedSince = 5
	check(t, 0, []row{
		{"fetch", fetch, map[string]any{
			"ALL":  items(FetchFlags, FetchInternalDate, FetchSize, FetchEnvelope),
			"fast": items(FetchFlags, FetchInternalDate, FetchSize),
			"FULL": items(FetchFlags, FetchInternalDate, FetchSize, FetchEnvelope, FetchBody),
			"(FLAGS BODY BODYSTRUCTURE UID RFC822 RFC822.HEADER RFC822.TEXT MODSEQ EMAILID THREADID SAVEDATE PREVIEW)": items(FetchFlags, FetchBody, FetchBodyStructure, FetchUID, FetchRFC822, FetchRFC822Header,
				FetchRFC822Text, FetchModSeq, FetchEmailID, FetchThreadID, FetchSaveDate, FetchPreview),
			"BODY[]":                        body(false, Section{}),
			"body.peek[header]":             body(true, Section{Text: SectionHeader}),
			"BODY[TEXT]<0.100>":             body(false, Section{Text: SectionBody, Partial: true, Count: 100}),
			"BODY[4.2.2.1]":                 body(false, Section{Part: []uint32{4, 2, 2, 1}}),
			"BODY[4.2.MIME]":                body(false, Section{Part: []uint32{4, 2}, Text: SectionMIME}),
			"BODY[4294967295]":              body(false, Section{Part: []uint32{4294967295}}),
			"BODY[]<4294967296.1>":          body(false, Section{Partial: true, Offset: 1 << 32, Count: 1}),
			"BODY[]<0.9223372036854775807>": body(false, Section{Partial: true, Count: 1<<63 - 1}),
			"BODY[HEADER.FIELDS (DATE \"FROM\" {2+}\r\nTo)]": body(false, Section{Text: SectionHeaderFields, Fields: []string{"DATE", "FROM", "To"}}),
			"BODY.PEEK[1.HEADER.FIELDS.NOT (Bcc)]<1.2>":      body(true, Section{Part: []uint32{1}, Text: SectionHeaderFieldsNot, Fields: []string{"Bcc"}, Partial: true, Offset: 1, Count: 2}),
			"BINARY[1.2]<3.4>":                      Fetch{Items: []FetchItem{{Kind: FetchBinary, Section: Section{Part: []uint32{1, 2}, Partial: true, Offset: 3, Count: 4}}}},
			"BINARY.PEEK[]":                         Fetch{Items: []FetchItem{{Kind: FetchBinary, Peek: true}}},
			"BINARY.SIZE[1]":                        Fetch{Items: []FetchItem{{Kind: FetchBinarySize, Section: Section{Part: []uint32{1}}}}},
			"(FLAGS) (CHANGEDSINCE 12345 VANISHED)": changed,
			"FLAGS (VANISHED CHANGEDSINCE 12345)":   changed,
			"(UID FLAGS) (PARTIAL -1:-30)":          partial,
			"PREVIEW (CHANGEDSINCE 5)":              preview,
			"(PREVIEW (lazy) UID)":                  Fetch{Items: []FetchItem{{Kind: FetchPreview, Lazy: true}, {Kind: FetchUID}}},
		}, []string{"", "()", "(ALL)", "FOO", "FLAGS UID", "(FLAGS", "(FLAGS )", "( FLAGS)", "FLAGS ()", "FLAGS (VANISHED)", "FLAGS (CHANGEDSINCE 0)", "FLAGS (FOO)", "FLAGS (PARTIAL 0:1)", "RFC822.PEEK", "BINARY", "BODY.PEEK", "BINARY.SIZE",
			"BINARY.SIZE[1]<0.1>", "BINARY[HEADER]", "BINARY[1.MIME]", "BODY[MIME]", "BODY[HEADER.FIELDS]", "BODY[HEADER.FIELDS ()]", "BODY[1.]", "BODY[.1]", "BODY[1..2]", "BODY[1.TEXT.2]", "BODY[HEADER", "BODY[", "BODY[FOO]",
			"BODY[1]<0>", "BODY[1]<.1>", "BODY[1]<1.>", "BODY[1]<1", "BODY[1] <1.2>", "BODYSTRUCTURE[1]", "((FLAGS))",
			// I17
			"BODY[0]", "BODY[1.0]", "BODY[01]", "BODY[4294967296]", "BODY[]<0.0>", "BODY[]<1.18446744073709551616>", "BODY[]<9223372036854775808.1>", "BODY[" + strings.Repeat("1.", 1000) + "1]",
			"BODY[HEADER.FIELDS (" + strings.Repeat("x ", 10_000) + "x)]", "(" + strings.Repeat("BODY[1] ", 5000) + "UID)", "BODY[HEADER.FIELDS (x", "BODY[HEADER.FIELDS ((x))]"}},
	})
	for item, seen := range map[string]bool{"BODY[]": true, "BODY.PEEK[]": false, "BINARY[1]": true, "BINARY.PEEK[1]": false, "RFC822": true, "RFC822.TEXT": true, "RFC822.HEADER": false, "BODY": false, "BINARY.SIZE[1]": false} {
		f := arguments(t, item, 0).Fetch()
		if f.Items[0].SetsSeen() != seen {
			t.Errorf("%s: %v", item, !seen)
		}
	}
}

// The name in the response is the item again, but for PEEK, the count of a partial, and quotes.
func TestAppendFetchName(t *testing.T) {
	for in, want := range map[string]string{
		"BODY.PEEK[1.HEADER.FIELDS (DATE FROM)]<0.100>": "BODY[1.HEADER.FIELDS (DATE FROM)]<0>", "BODY[]": "BODY[]", "BODY[MIME]": "", "BODY[2.MIME]": "BODY[2.MIME]", "BODY[HEADER]": "BODY[HEADER]",
		"BINARY.PEEK[1.2]": "BINARY[1.2]", "BINARY.SIZE[3]": "BINARY.SIZE[3]", "RFC822.SIZE": "RFC822.SIZE", "BODY": "BODY", "BODY[HEADER.FIELDS.NOT (\"a b\" \"NIL\" {4+}\r\nc\r\nd)]": "BODY[HEADER.FIELDS.NOT (\"a b\" \"NIL\" {4}\r\nc\r\nd)]",
	} {
		if want == "" {
			continue
		}
		f := arguments(t, in, 0).Fetch()
		if got := string(AppendFetchName(nil, &f.Items[0], 0)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for k := FetchEnvelope; k <= FetchPreview; k++ {
		if fetchWords[k] == "" {
			t.Errorf("no name for %d", k)
		}
	}
}

func TestStore(t *testing.T) {
	check(t, 0, []row{
		{"store", func(d *Decoder) any { return d.Store() }, map[string]any{
			`+FLAGS (\Deleted)`:      Store{Op: StoreAdd, Flags: []string{`\Deleted`}},
			`-flags.silent \Seen $X`: Store{Op: StoreRemove, Silent: true, Flags: []string{`\Seen`, "$X"}},
			`FLAGS ()`:               Store{},
			`(UNCHANGEDSINCE 320162338) +FLAGS.SILENT (\Deleted)`: Store{Op: StoreAdd, Silent: true, Flags: []string{`\Deleted`}, Conditional: true, UnchangedSince: 320162338},
			`(UNCHANGEDSINCE 0) FLAGS a`:                          Store{Flags: []string{"a"}, Conditional: true},
		}, []string{"", "FLAGS", "FLAGS ", "*FLAGS (a)", "+ FLAGS (a)", "FLAG (a)", "FLAGS a  b", "FLAGS (a) b", "() FLAGS a", "(FOO 1) FLAGS a", "(UNCHANGEDSINCE 1 UNCHANGEDSINCE 2) FLAGS a", "(UNCHANGEDSINCE -1) FLAGS a", "FLAGS" + strings.Repeat(" a", 1001)}},
	})
}
