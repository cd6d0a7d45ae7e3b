// Package facts is what FETCH, SORT, SEARCH and THREAD need to know of a message, as one run of octets: made once, when the message is read for the
// first time, kept by whoever likes, and read where it lies. Nothing in it can be another tomorrow: it is a function of the message's content alone.
//
//	Describer.Describe   reads a message to its end and says what is to be known
//	Facts                that, with a method for each value; none of them allocates or copies
//	Name, Names          the header fields that are in it: those of the set that are not in it are not in the message
//	Facts.Truncated      but for a header that is longer than Parse keeps: its fields are in the file
//
// What it is for is IMAP's; it knows none of IMAP's syntax.
//
// # Form
//
// Numbers are little-endian. A record is octets and words, which have 2 octets each, or in a record that would be longer than 65,535 octets then, 4: of
// messages to hundreds of people, or with hundreds of parts. One octet says which; w is a word below. All that is in the record is said in words: a text is
// where it begins and how long it is; 0 and 0: there is none, as opposed to one that is empty. A list is where its first element is and how many follow each
// other. A number of octets or lines has two words; a message of 4 GiB has wide ones for its sake. Texts lie anywhere and may share their octets: most are
// found in the header fields, and stand there once.
//
//	 0    1  form: 2
//	 1    1  1 words have 4 octets, 2 there is a sent date, 4 the subject is of a reply or a forward, 8 a header was longer than Parse keeps
//	 2    2  zone of the sent date, minutes east of UTC
//	 4    8  sent date, seconds since 1970
//	12    8  octets of the message in wire form
//	20   15  EMAILID
//	35   15  THREADID
//	50   1w  where the first part is
//	     2w  header fields, a list: 1 octet number in Names, text: the whole field in wire form
//	    20w  envelope: texts Date, Subject, In-Reply-To, Message-ID, and lists From, Sender, Reply-To, To, Cc, Bcc of addresses:
//	         1 octet kind, texts name, route, mailbox, host
//	     2w  text: the subject, decoded
//	     2w  text: the base subject
//	     2w  text: the name of the first address of From, decoded
//	     2w  the same of To
//	     2w  text: the message id, without its angle brackets
//	     2w  references, a list of such texts
//
// A part; parts in it follow it, each before the parts in it:
//
//	0    1  0 has no parts, 1 multipart, 2 message
//	1   1w  number of parts, with those in it
//	    1w  where the envelope of the message in it is
//	    8w  header: first octet in the file, octets, octets in wire form, line ends
//	    6w  body: octets, octets in wire form, line ends
//	   16w  texts: type, subtype, encoding, id, description, md5, disposition, location
//	    6w  lists: parameters and those of the disposition, two texts each; languages, a text each
//
// # How much
//
// An ordinary message has some 1,000 octets of facts. What Parse keeps of a message is all there, so there is no more than MaxSize: with the defaults of
// message.Limits headers have 1 MiB together, of which 3 octets can be two addresses ("a:;"), 66 octets here: 23 MB. The fields of the message's own header, of
// 256 KiB, are there once more: 1 MB. 10,000 parts and those that Parse makes up have 153 octets each, 80 for an envelope, and their texts: 3 MB.
//
// What Parse does not keep, of a header longer than 256 KiB or a field longer than 64, is in the file only: Truncated. Nobody writes those but to see what happens.
//
// # Object ids (RFC 8474)
//
// EMAILID is the first 120 bits of SHA-256 of the message with every CR LF an LF. That is one to one with its wire form, and so the same whether a file has CRs or has
// not: Dovecot stores either, and a message that was fetched and appended elsewhere has the same id again. And it is the file as deliveries of ours
// write it: sha256sum(1) shows the id. THREADID is the first 120 bits of SHA-256 of the message id at the root of the thread, as far as the message
// says: the first of References, else of In-Reply-To, else of Message-ID; without any it is the EMAILID. So a reply gets its thread without anybody
// looking for it. What it does not see is a References field whose beginning a program on the way has cut off: that is a thread of its own. Both survive
// caches, copies, moves and other servers.
package facts
