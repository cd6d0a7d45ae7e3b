// Package facts is what FETCH, SORT, SEARCH and THREAD need to know of a message, as one run of octets: made once, when the message is read for the
// first time, kept by whoever likes, and read where it lies. Nothing in it can be another tomorrow: it is a function of the message's content alone.
//
//	Describer.Describe   reads a message to its end and says what is to be known
//	Facts                that, with a method for each value; none of them allocates or copies
//	Name, Fields         the header fields that are in it, and that those of the set that are not in it are not in the message
//
// What it is for is IMAP's; it knows none of IMAP's syntax.
//
// # Form
//
// Numbers are little-endian. No record is longer than 65,535 octets, so that two octets say where something is. A text is 2 octets where it begins in the
// record and 2 octets how long it is; 0 and 0: there is none, as opposed to one that is empty. A list is 2 octets where its first element is and 2 octets how many
// follow each other. Texts lie anywhere and may share their octets: most are found in the header fields, and stand there once.
//
//	 0    1  form: 1
//	 1    1  what did not fit (1 fields, 2 envelope, 4 thread, 8 structure), 16: there is a sent date, 32: the subject is of a reply or a forward
//	 2    2  zone of the sent date, minutes east of UTC
//	 4    2  where the first part is
//	 6    2  0
//	 8    8  sent date, seconds since 1970
//	16    8  octets of the message in wire form
//	24   15  EMAILID
//	39   15  THREADID
//	54    4  header fields, a list: 1 octet number in Names, text: the whole field in wire form
//	58   40  envelope: texts Date, Subject, In-Reply-To, Message-ID, and lists From, Sender, Reply-To, To, Cc, Bcc of addresses:
//	         1 octet kind, texts name, route, mailbox, host
//	98    4  text: the subject, decoded
//	102   4  text: the base subject
//	106   4  text: the name of the first address of From, decoded
//	110   4  the same of To
//	114   4  text: the message id, without its angle brackets
//	118   4  references, a list of such texts
//	122   ..
//
// A part, 77 octets; parts in it follow it, each before the parts in it:
//
//	 0    2  number of parts, with those in it
//	 2    1  0 has no parts, 1 multipart, 2 message
//	 3    2  where the envelope of the message in it is
//	 5   16  header: first octet in the file, octets, octets in wire form, line ends
//	21   12  body: octets, octets in wire form, line ends
//	33   32  texts: type, subtype, encoding, id, description, md5, disposition, location
//	65   12  lists: parameters and those of the disposition, two texts each; languages, a text each
//
// # Not all
//
// Fields longer than 24 KiB together, and whatever does not fit into the record then, are not there at all rather than in part: Has says so, and the file has
// them. So are fields of a header that is longer than Parse keeps, and the structure of a message of 4 GiB. It takes some hundreds of addresses or parts.
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
