package smtp

// The words of XTARGET and XEXPAND, between queued and deliver. XTARGET says what of an address is meant; none, and it is the mailbox, or what the forward file of its user
// says. To a client that has said XEXPAND the latter is told, as the lines of a reply 551 5.1.6: words of XTARGET, and the others.
const (
	InAlias     = "alias:"          // and a name (alias.Target.Name): a command or file in the entry of the address in the alias files
	InForward   = "forward:"        // and a name: one in the forward file of the user
	WholeFile   = InForward + "all" // of a .qmail file all, one line after the other; whom it names is told at the end
	JustMailbox = "mailbox"         // the mailbox, whatever the forward file says
	InAddress   = "address:"        // and an address, in xtext, that the client is to send the message to; after a backslash it is no alias
	Discarded   = "discard"         // nobody
)
