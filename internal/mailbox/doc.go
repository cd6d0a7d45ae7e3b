// Package mailbox keeps one folder of a maildir open for those who read and change it, and remembers what it has learnt of its messages
// in a file beside them. It knows no protocol.
//
// What is true stands elsewhere: the messages and their flags in the names of the files, the UIDs in dovecot-uidlist, the names of
// keywords in dovecot-keywords (package uidlist). Dovecot, mutt, deliver or rm may change any of it at any moment. The files
// postamt.index, postamt.cache and postamt.columns are caches: they may be deleted, cut or overwritten with anything at any time, and only time is lost.
//
// # postamt.index
//
// Numbers are little-endian.
//
//	snapshot: header, 140 octets
//	    0   16  "postamt.index 4\n"
//	   16    8  generation: random, another for each snapshot
//	   24    4  UIDVALIDITY
//	   28    4  UIDNEXT
//	   32    8  highest mod-sequence
//	   40    4  number of records
//	   44    4  octets of names
//	   48   72  state: what was seen of cur/, new/ and dovecot-uidlist (type state)
//	  120    8  generation of postamt.cache; 0: none
//	  128    4  CRC-32C of the records
//	  132    4  CRC-32C of the names, which are not read to open a mailbox: it is looked at when they are all read, before a name that was not found is given up
//	  136    4  CRC-32C of the header before it
//	records, 56 octets each, ascending by UID
//	    0    4  UID
//	    4    4  keywords, a bit for each letter of the file name
//	    8    8  mod-sequence
//	   16    8  octets of the file; all bits set: not known yet
//	   24    8  octets in wire form (CRLF); the same
//	   32    8  internal date, seconds since 1970; the same
//	   40    8  octet where its facts are in postamt.cache; 0: none
//	   48    5  octet where the file name begins in the names
//	   53    1  its length
//	   54    1  flags: 1 Draft, 2 Flagged, 4 Passed, 8 Replied, 16 Seen, 32 Trashed
//	   55    1  1: in new/
//	names, one after the other
//
// Changes follow, in the order in which they were made:
//
//	0    4  octets of the payload
//	4    4  CRC-32C of generation, kind and payload
//	8    1  kind
//	9   ..  payload: A message  a record and the name
//	                 F flags    a record and the name, both replace what was known
//	                 L learnt   UID, 4 zeros, and of the record: both sizes, date, where its facts are
//	                 X expunge  UID, 4 zeros, mod-sequence
//	                 S state    UIDNEXT, UIDVALIDITY, state
//
// Behind a new snapshot stand X of the last thousand messages that were expunged: their files may come back, and are not to get their old UIDs.
//
// Of two writers one waits (flock of the file, which may be empty; a new snapshot is locked before it has the name, and who waited for the old file waits
// for the new one then). A reader takes no lock: a change is valid when its sum is, and the first that is not is the end until it is overwritten. Nothing
// is synced.
//
//	what happens                                        what is there then
//	a writer dies within a change                       its sum is wrong: the next writer overwrites it
//	a writer dies before the rename of a new snapshot   postamt.index.new, which the next one replaces
//	power is cut                                        any of it: sums, or the state of the directories, do not agree: read anew
//	another program renames or removes messages         the time of cur/ or new/ changes: they are read again
//	UIDVALIDITY changes                                 a new snapshot
//
// # postamt.cache
//
// What a message's file says is read once, by Options.Describe, of which the mailbox knows nothing but that it gives octets, the facts. Messages never
// change, nor do records: they are appended, and what is of messages that are gone is dropped when it is most of the file.
// Facts of more than 1 MiB are made each time that they are asked for: 10,000 recipients or 5,000 parts have less, and what was sent to have more
// fills no disk with twenty times its own size.
//
//	header, 64 octets
//	    0   16  "postamt.cache 1\n"
//	   16    8  generation: random, not 0
//	   24    4  UIDVALIDITY
//	   28    4  form of the facts
//	   32    4  CRC-32C of the header before it
//	   36    4  0
//	   40    8  number of records ever appended, a hint
//	   48   16  0
//	records, one after the other
//	    0    4  CRC-32C of the generation and of the record behind this
//	    4    4  octets of the facts, at most 1 MiB
//	    8    4  UID
//	   12    4  CRC-32C of the file name up to the first colon
//	   16    8  octets in wire form
//	   24   ..  facts
//
// Who writes has locked the index, in which each record's place is noted after it was written. Who reads takes no lock: a record is what the index says it
// is when its sum and UID are right, also in a file that has lost its name meanwhile. Nothing is synced.
//
//	what happens                                        what is there then
//	a writer dies within a record, or power is cut      a wrong sum, if the index knows of it at all: that message is read again
//	a writer dies before the index knows of records     records nobody knows of: those messages are read again
//	a new file is made: none was there, or one of       the index is written anew with its generation, and no places, or those in the
//	another UIDVALIDITY or form; or most was dropped    new file
//	a writer dies before that, or the index is lost     generations do not agree: records are found by reading the file, as far as UID and name are
//	                                                    those of a message that there is
//	the file is lost, or its header damaged             a new one; all is read again as it is asked for
//	it cannot be written                                messages are read each time
//	a program copies into cur/ what is not whole yet    the facts of a part of it, until Measure finds another size
//
// # postamt.columns
//
// SORT, THREAD and SEARCH ask little of many: the subjects of 100,000 messages are 4 MB, the facts in which they stand 120. So what Options.Column makes of facts stands here a second
// time, that of each message next to that of the next. Who finds that many of those for whom he asked are not here has a new file made the next time, of all messages whose facts
// are kept, by a pass over these. Nobody changes a file that has the name.
//
//	header, 64 octets
//	    0   16  "postamt.column1\n"
//	   16    8  generation of postamt.cache
//	   24    4  UIDVALIDITY
//	   28    4  form of the facts
//	   32    4  number of columns
//	   36    4  CRC-32C of the header before it
//	   40   24  0
//	blocks, one after the other, ascending by UID
//	    0    4  CRC-32C of the head behind this, and of the rows
//	    4    4  number of rows, at most 1,024
//	    8    8  first and last UID
//	   16   ..  for each column 4 octets how long it is, 4 CRC-32C of it
//	   ..   ..  rows: UID, and in 8 octets the place of its facts in postamt.cache
//	   ..   ..  columns: for each row 2 octets how long its text is, then the texts
//
// A row is of the message with its UID if that has its facts at the same place now. One without values, because they have more than 65,535 octets or the facts are not kept, has all bits
// but the last set for a place: what it lacks is made of the facts each time. A block ends with 1,024 rows or 1 MiB of text.
//
//	what happens                                        what is there then
//	a writer dies                                       postamt.columns.new, which he had locked (flock): the next one takes it over
//	a new cache is made, or the file is damaged         the facts are asked, and the next time a new file is made
//	it cannot be written                                the facts are asked each time
//
// # Reading the directories
//
// cur/ and new/ are read when their times are not those noted, or when those were so young that a change in the same tick could
// hide behind them: 30 milliseconds on the file systems of this host that count finer than seconds, else two seconds. readdir(3) misses entries while others rename: a message is gone only when a reading did not show it during which
// nothing changed.
//
// Two files with one base are one message. If they are names of one file, which a program that was killed between link(2) and unlink(2) leaves, one of them is
// removed after half a minute, and the other gets the flags of both; who removes or moves the message before takes both. A file of other content is shown
// when the first is gone.
//
// # Changes
//
// A change is a rename, a link or a removal under a name that the mailbox knows. When the file has another name by then the step fails, the
// directories are read anew, and it is taken again on what is there now: so what others have set stays. A command syncs each directory once, at its
// end. What a crash leaves of each is at SetFlags, Stage and Move. Who changes two folders locks them in the order of their inodes.
//
// # Mod-sequences
//
// They are microseconds since 1970, or one more than the last if the clock stands behind it: a cache that was lost begins above
// what clients have seen.
package mailbox
