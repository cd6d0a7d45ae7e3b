package mailbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// indexDir makes the directory in which a folder's index is kept apart from it: ROOT/UID/SUM OF THE MAILDIR'S PATH/FOLDER. Everybody may make a directory in ROOT, so
// who finds one there that is not his own does not use it. The index is tied to its folder by what it notes of it; so a directory that is left over, or that a
// renamed folder finds, costs time at most.
func indexDir(root, maildir, folder string) (string, error) {
	sum := sha256.Sum256([]byte(maildir))
	if folder == "" {
		folder = "INBOX" // no folder's directory has that name
	}
	at := root
	for _, name := range []string{strconv.Itoa(os.Geteuid()), hex.EncodeToString(sum[:12]), folder} {
		at = filepath.Join(at, name)
		if err := os.Mkdir(at, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("mailbox: index: %w", err)
		}
		info, err := os.Lstat(at)
		if err != nil {
			return "", fmt.Errorf("mailbox: index: %w", err)
		}
		if s, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || info.Mode().Perm()&0o022 != 0 || !ok || int(s.Uid) != os.Geteuid() {
			return "", fmt.Errorf("mailbox: index: %s is not a directory of ours alone", at)
		}
	}
	return at, nil
}
