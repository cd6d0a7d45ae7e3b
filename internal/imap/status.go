package imap

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// The conditions of a status response.
const (
	ConditionOK      = "OK"
	ConditionNO      = "NO"
	ConditionBAD     = "BAD"
	ConditionBYE     = "BYE"
	ConditionPREAUTH = "PREAUTH"
)

// Response codes that stand alone (RFC 9051 section 7.1, RFC 5530, and the extensions); those with arguments are made by functions.
const (
	AlreadyExists        = "ALREADYEXISTS"
	AuthenticationFailed = "AUTHENTICATIONFAILED"
	Cannot               = "CANNOT"
	Closed               = "CLOSED"            // RFC 7162
	CompressionActive    = "COMPRESSIONACTIVE" // RFC 4978
	Expired              = "EXPIRED"
	ExpungeIssued        = "EXPUNGEISSUED"
	HasChildren          = "HASCHILDREN"
	InUse                = "INUSE"
	LimitReached         = "LIMIT"
	MetadataNoPrivate    = "METADATA NOPRIVATE"
	MetadataTooMany      = "METADATA TOOMANY"
	NonExistent          = "NONEXISTENT"
	NoPerm               = "NOPERM"
	NotificationOverflow = "NOTIFICATIONOVERFLOW" // RFC 5465
	OverQuota            = "OVERQUOTA"
	PrivacyRequired      = "PRIVACYREQUIRED"
	ReadOnly             = "READ-ONLY"
	ReadWrite            = "READ-WRITE"
	TooBig               = "TOOBIG" // RFC 4469
	TryCreate            = "TRYCREATE"
	UIDRequired          = "UIDREQUIRED" // RFC 9586
	Unavailable          = "UNAVAILABLE"
	UnknownCTE           = "UNKNOWN-CTE" // RFC 3516
	UseAttr              = "USEATTR"     // RFC 6154
)

// Status is a status response. It is an error so that a decision can be returned as one.
type Status struct {
	Condition string // one of the constants
	Code      string // what stands in the brackets, "" for none
	Text      string // for people
}

// OK makes a positive response; code is "" or a response code.
func OK(code, text string) *Status { return &Status{ConditionOK, code, text} }

// No makes a negative response: the command was understood and failed.
func No(code, text string) *Status { return &Status{ConditionNO, code, text} }

// Bad makes the response to a command that is wrong.
func Bad(text string) *Status { return &Status{ConditionBAD, "", text} }

// Bye makes the response before the connection is closed.
func Bye(code, text string) *Status { return &Status{ConditionBYE, code, text} }

func tooBig(text string) *Status { return &Status{ConditionBAD, TooBig, text} }

// Error is the response without its tag.
func (s *Status) Error() string { return string(AppendStatus(nil, s, UTF8)) }

// AppendStatus appends the response without tag and CRLF. Control characters become "?"; so do, without UTF8, characters beyond ASCII (RFC 9051: text). A text that
// could be taken for a response code cannot.
func AppendStatus(dst []byte, s *Status, m Mode) []byte {
	dst = append(append(dst, s.Condition...), ' ')
	if s.Code != "" {
		dst = append(dst, '[')
		begin := len(dst)
		dst = appendClean(dst, s.Code, m)
		for i, c := range dst[begin:] {
			if c == ']' {
				dst[begin+i] = '?'
			}
		}
		dst = append(dst, "] "...)
	}
	switch text := s.Text; {
	case text == "":
		// RFC 3501 has no response without a text.
		dst = append(dst, "done"...)
	case text[0] == '[' && s.Code == "":
		dst = appendClean(append(dst, '('), text[1:], m)
	default:
		dst = appendClean(dst, text, m)
	}
	return dst
}

func appendClean(dst []byte, s string, m Mode) []byte {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r >= utf8.RuneSelf && (m&UTF8 == 0 || r == utf8.RuneError || r < 0xa0) {
			r = '?'
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

// WriteStatus sends a status response, untagged when tag is "".
func (c *Conn) WriteStatus(tag string, s *Status) error {
	if tag == "" {
		tag = "*"
	}
	var room [256]byte
	b := append(append(room[:0], tag...), ' ')
	_, err := c.Write(append(AppendStatus(b, s, c.Mode), "\r\n"...))
	return err
}

// WriteContinuation sends "+ " and a text: "idling", or the base64 of a SASL challenge.
func (c *Conn) WriteContinuation(text string) error {
	var room [256]byte
	b := append(append(room[:0], "+ "...), text...)
	_, err := c.Write(append(b, "\r\n"...))
	return err
}

// The response codes with arguments.

func codeNumber(name string, n uint64) string { return name + " " + strconv.FormatUint(n, 10) }

// CodeUIDNext is the code UIDNEXT.
func CodeUIDNext(uid uint32) string { return codeNumber("UIDNEXT", uint64(uid)) }

// CodeUIDValidity is the code UIDVALIDITY.
func CodeUIDValidity(v uint32) string { return codeNumber("UIDVALIDITY", uint64(v)) }

// CodeUnseen is the code UNSEEN of revision 1.
func CodeUnseen(seq uint32) string { return codeNumber("UNSEEN", uint64(seq)) }

// CodeHighestModSeq is the code of RFC 7162.
func CodeHighestModSeq(n uint64) string { return codeNumber("HIGHESTMODSEQ", n) }

// CodeMetadataMaxSize says how large the value of an entry may be (RFC 5464).
func CodeMetadataMaxSize(n int) string { return codeNumber("METADATA MAXSIZE", uint64(n)) }

// CodeMetadataLongEntries says how long the longest value is that was left out.
func CodeMetadataLongEntries(n int) string { return codeNumber("METADATA LONGENTRIES", uint64(n)) }

// CodeNoUpdate says that the search of this tag is not kept up to date (RFC 5267).
func CodeNoUpdate(tag string) string { return string(AppendString([]byte("NOUPDATE "), tag, 0)) }

// CodeMailboxID is the code of RFC 8474; id is of its characters.
func CodeMailboxID(id string) string { return "MAILBOXID (" + id + ")" }

// CodePermanentFlags is the code PERMANENTFLAGS; `\*` among the flags says that new ones can be made.
func CodePermanentFlags(flags []string) string {
	return string(AppendFlags([]byte("PERMANENTFLAGS "), flags...))
}

// CodeCapability is the code CAPABILITY.
func CodeCapability(names []string) string { return "CAPABILITY " + strings.Join(names, " ") }

// CodeBadCharset is the code BADCHARSET with those that are known.
func CodeBadCharset(known []string) string {
	if len(known) == 0 {
		return "BADCHARSET"
	}
	return "BADCHARSET (" + strings.Join(known, " ") + ")"
}

// CodeBadEvent is the code of RFC 5465 with the events that are supported.
func CodeBadEvent(supported []string) string {
	return "BADEVENT (" + strings.Join(supported, " ") + ")"
}

// CodeAppendUID is the code of RFC 9051 section 7.1, for the UIDs that the messages of an APPEND got, ascending.
func CodeAppendUID(validity uint32, uids []uint32) string {
	return string(AppendNumbers(append(strconv.AppendUint([]byte("APPENDUID "), uint64(validity), 10), ' '), uids))
}

// CodeCopyUID is the code of COPY and MOVE: from[i] has become to[i]. Both are in ascending order.
func CodeCopyUID(validity uint32, from, to []uint32) string {
	b := append(strconv.AppendUint([]byte("COPYUID "), uint64(validity), 10), ' ')
	return string(AppendNumbers(append(AppendNumbers(b, from), ' '), to))
}

// CodeMessageLimit is the code of RFC 9738: the most messages of a command, and the lowest UID of those that it has worked on, 0 if that is not known.
func CodeMessageLimit(limit int, lowest uint32) string {
	b := strconv.AppendInt([]byte("MESSAGELIMIT "), int64(limit), 10)
	if lowest != 0 {
		b = strconv.AppendUint(append(b, ' '), uint64(lowest), 10)
	}
	return string(b)
}

// CodeModified is the code of RFC 7162: the messages that were not changed, by their numbers, ascending.
func CodeModified(nums []uint32) string { return string(AppendNumbers([]byte("MODIFIED "), nums)) }
