package imap

// SearchReturn is what stands behind RETURN (RFC 9051 section 6.4.4, RFC 5267, RFC 6203, RFC 9394).
type SearchReturn struct {
	Given bool // there was a RETURN: the response is ESEARCH. RETURN () is RETURN (ALL), which All says.

	Min, Max, All, Count, Save bool
	Relevancy                  bool
	Context                    bool
	Update                     bool
	UpdateItems                []FetchItem   // what is fetched of messages that come to it (RFC 5465 section 6)
	Partial                    *PartialRange // excludes All
}

// SearchReturn reads [SP "RETURN" SP "(" [search-return-opt *(SP search-return-opt)] ")"].
func (d *Decoder) SearchReturn() (r SearchReturn) {
	if !d.skipFold(" RETURN ") {
		return r
	}
	r.Given = true
	if d.skipFold("()") {
		r.All = true
		return r
	}
	d.List(16, func() { d.searchReturnOption(&r) })
	if r.All && r.Partial != nil {
		d.Fail("ALL and PARTIAL exclude each other") // RFC 9394 section 3.1
	}
	return r
}

func (d *Decoder) searchReturnOption(r *SearchReturn) {
	switch string(d.word()) {
	case "MIN":
		r.Min = true
	case "MAX":
		r.Max = true
	case "ALL":
		r.All = true
	case "COUNT":
		r.Count = true
	case "SAVE":
		r.Save = true
	case "RELEVANCY":
		r.Relevancy = true
	case "CONTEXT":
		r.Context = true
	case "UPDATE":
		r.Update = true
		// RFC 5465 section 10 has no space here, its examples have.
		if d.Is('(') || d.spaceThen('(') {
			r.UpdateItems = d.fetchList()
		}
	case "PARTIAL":
		if r.Partial != nil {
			d.Fail("PARTIAL is given twice")
		}
		p := d.SP().PartialRange()
		r.Partial = &p
	default:
		d.Fail("unknown return option")
	}
}

// SearchSource reads [SP "IN" SP "(" source-mbox ")"] of ESEARCH (RFC 7377 section 4); nil is the selected mailbox. There are no scope-options so far.
func (d *Decoder) SearchSource() (filters []MailboxFilter) {
	if !d.skipFold(" IN ") {
		return nil
	}
	d.NonEmptyList(maxFilters, func() { filters = append(filters, d.mailboxFilter()) })
	for _, f := range filters {
		if f.Kind == FilterSelectedDelayed {
			d.Fail("selected-delayed is for NOTIFY")
		}
	}
	return filters
}

// SortOrder is what SORT orders by (RFC 5256, RFC 5957, RFC 6203).
type SortOrder uint8

const (
	SortArrival SortOrder = iota + 1
	SortCc
	SortDate
	SortFrom
	SortSize
	SortSubject
	SortTo
	SortDisplayFrom
	SortDisplayTo
	SortRelevancy
)

// SortKey is a sort criterion.
type SortKey struct {
	Order   SortOrder
	Reverse bool
}

// SortKeys reads sort-criteria = "(" sort-criterion *(SP sort-criterion) ")".
func (d *Decoder) SortKeys() (keys []SortKey) {
	d.NonEmptyList(32, func() {
		k := SortKey{}
		w := d.word()
		if string(w) == "REVERSE" {
			k.Reverse = true
			w = d.SP().word()
		}
		switch string(w) {
		case "ARRIVAL":
			k.Order = SortArrival
		case "CC":
			k.Order = SortCc
		case "DATE":
			k.Order = SortDate
		case "FROM":
			k.Order = SortFrom
		case "SIZE":
			k.Order = SortSize
		case "SUBJECT":
			k.Order = SortSubject
		case "TO":
			k.Order = SortTo
		case "DISPLAYFROM":
			k.Order = SortDisplayFrom
		case "DISPLAYTO":
			k.Order = SortDisplayTo
		case "RELEVANCY":
			k.Order = SortRelevancy
		default:
			d.Fail("unknown sort criterion")
		}
		keys = append(keys, k)
	})
	return keys
}
