package message

import (
	"io"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
	"golang.org/x/text/transform"
)

// charset returns the charset of that name, nil when it is unknown. US-ASCII and UTF-8 are one: what is not ASCII under the
// first name is most likely the second. Where a vendor's charset has all of a standard's and more, mail has it under the
// standard's name, and it is read as the vendor's: windows-1252 for ISO-8859-1, GBK for GB2312, windows-949 for EUC-KR.
//
// A switch, not a map: a program pays for a charset when mail has it, not when it starts.
func charset(name string) encoding.Encoding {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "utf-8", "utf8", "us-ascii", "ascii", "ansi_x3.4-1968", "iso646-us", "unicode-1-1-utf-8", "unknown-8bit", "x-unknown", "8bit":
		return unicode.UTF8
	case "iso-8859-1", "iso8859-1", "iso_8859-1", "latin1", "l1", "windows-1252", "cp1252", "x-cp1252", "iso-8859-1-windows-3.1-latin-1":
		return charmap.Windows1252
	case "iso-8859-2", "iso8859-2", "iso_8859-2", "latin2", "l2":
		return charmap.ISO8859_2
	case "iso-8859-3", "iso8859-3", "latin3":
		return charmap.ISO8859_3
	case "iso-8859-4", "iso8859-4", "latin4":
		return charmap.ISO8859_4
	case "iso-8859-5", "iso8859-5", "cyrillic":
		return charmap.ISO8859_5
	case "iso-8859-6", "iso8859-6", "iso-8859-6-e", "iso-8859-6-i", "arabic":
		return charmap.ISO8859_6
	case "iso-8859-7", "iso8859-7", "greek":
		return charmap.ISO8859_7
	case "iso-8859-8", "iso8859-8", "iso-8859-8-e", "iso-8859-8-i", "hebrew":
		return charmap.ISO8859_8
	case "iso-8859-9", "iso8859-9", "latin5", "windows-1254", "cp1254":
		return charmap.Windows1254
	case "iso-8859-10", "iso8859-10", "latin6":
		return charmap.ISO8859_10
	case "iso-8859-11", "iso8859-11", "tis-620", "windows-874", "cp874":
		return charmap.Windows874
	case "iso-8859-13", "iso8859-13":
		return charmap.ISO8859_13
	case "iso-8859-14", "iso8859-14", "latin8":
		return charmap.ISO8859_14
	case "iso-8859-15", "iso8859-15", "iso_8859-15", "latin9", "latin-9":
		return charmap.ISO8859_15
	case "iso-8859-16", "iso8859-16":
		return charmap.ISO8859_16
	case "windows-1250", "cp1250", "x-cp1250":
		return charmap.Windows1250
	case "windows-1251", "cp1251", "x-cp1251":
		return charmap.Windows1251
	case "windows-1253", "cp1253":
		return charmap.Windows1253
	case "windows-1255", "cp1255":
		return charmap.Windows1255
	case "windows-1256", "cp1256":
		return charmap.Windows1256
	case "windows-1257", "cp1257":
		return charmap.Windows1257
	case "windows-1258", "cp1258":
		return charmap.Windows1258
	case "koi8-r", "koi8", "cskoi8r":
		return charmap.KOI8R
	case "koi8-u", "koi8-ru":
		return charmap.KOI8U
	case "cp437", "ibm437":
		return charmap.CodePage437
	case "cp850", "ibm850":
		return charmap.CodePage850
	case "cp852", "ibm852":
		return charmap.CodePage852
	case "cp866", "ibm866":
		return charmap.CodePage866
	case "macintosh", "mac", "x-mac-roman":
		return charmap.Macintosh
	case "x-mac-cyrillic", "x-mac-ukrainian":
		return charmap.MacintoshCyrillic
	case "iso-2022-jp", "iso-2022-jp-1", "iso-2022-jp-2", "csiso2022jp", "cp50220":
		return japanese.ISO2022JP
	case "shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji", "windows-31j", "cp932":
		return japanese.ShiftJIS
	case "euc-jp", "eucjp", "x-euc-jp":
		return japanese.EUCJP
	case "gb2312", "gbk", "gb_2312-80", "csgb2312", "x-gbk", "cp936", "euc-cn", "x-euc-cn":
		return simplifiedchinese.GBK
	case "gb18030":
		return simplifiedchinese.GB18030
	case "hz-gb-2312", "hz":
		return simplifiedchinese.HZGB2312
	case "big5", "big-5", "big5-hkscs", "cn-big5", "csbig5", "x-x-big5", "cp950":
		return traditionalchinese.Big5
	case "euc-kr", "euckr", "ks_c_5601-1987", "ks_c_5601", "ksc5601", "ks_c_5601-1989", "cp949", "uhc", "windows-949":
		return korean.EUCKR
	case "utf-16", "utf16":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	case "utf-16be":
		return unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
	case "utf-16le":
		return unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	case "utf-32":
		return utf32.UTF32(utf32.BigEndian, utf32.UseBOM)
	case "utf-32be":
		return utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM)
	case "utf-32le":
		return utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM)
	}
	return nil
}

// KnownCharset reports whether the charset can be decoded.
func KnownCharset(name string) bool { return charset(name) != nil }

// toUTF8 decodes octets. Those of an unknown charset are taken for UTF-8.
func toUTF8(b []byte, name string) string {
	e := charset(name)
	if e == nil || e == unicode.UTF8 {
		return strings.ToValidUTF8(string(b), "\ufffd")
	}
	out, err := e.NewDecoder().Bytes(b)
	if err != nil { // some decoders stop at what is cut off at the end
		return strings.ToValidUTF8(string(b), "\ufffd")
	}
	return string(out)
}

// Decode reads the body of a part as text: its transfer encoding taken off, its charset decoded to UTF-8, octets that mean
// nothing in it replaced. Both are names as mail has them; an unknown encoding stands for identity, an unknown
// charset for UTF-8. Lines keep the ends they have. An error is one of r.
func Decode(r io.Reader, transferEncoding, charsetName string) io.Reader {
	r, _ = Transfer(r, transferEncoding)
	e := charset(charsetName)
	if e == nil {
		e = unicode.UTF8
	}
	return transform.NewReader(r, e.NewDecoder())
}
