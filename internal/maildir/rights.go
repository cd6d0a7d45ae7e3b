package maildir

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Rights are what a user may do in a folder: what the rights file gives him, or
// leaves the owner, who he is unless nobody owns the maildir, and what the modes
// of the directories let this process do. Errors: ErrNoFolder, ErrFolder, others.
func (r *Root) Rights(name, user string) (Rights, error) {
	dir, err := r.in(name)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	rights, err := r.given(dir, user)
	if err != nil || rights == 0 {
		return 0, err
	}
	may := func(dir *os.File, name string, mode uint32) bool {
		// One that is missing is made when it is needed.
		err := unix.Faccessat(int(dir.Fd()), name, mode, 0)
		return err == nil || err == unix.ENOENT
	}
	if !may(dir, "cur", unix.R_OK|unix.X_OK) {
		rights &^= Read
	}
	if !may(dir, ".", unix.W_OK) {
		rights &^= changes | Administer
	}
	if !may(dir, "cur", unix.W_OK) || !may(dir, "new", unix.W_OK) {
		rights &^= changes
	}
	if !may(r.dir, ".", unix.W_OK) {
		rights &^= CreateBelow | DeleteFolder
	}
	return rights, nil
}

// given is what the rights file says. One that the modes keep from this process
// gives it nothing.
func (r *Root) given(dir *os.File, user string) (Rights, error) {
	list, err := r.acl(dir)
	switch {
	case r.shared && errors.Is(err, fs.ErrPermission):
		return 0, nil
	case err != nil:
		return 0, err
	case r.shared:
		return SharedRights(list, user), nil
	}
	return OwnersRights(list, user), nil
}

// Visible lists the folders of which the rights files let a user know, as Folders
// does. That of the root is read once.
func (r *Root) Visible(user string) ([]Folder, error) {
	folders, err := r.Folders()
	if err != nil || !r.shared { // OwnerRights
		return folders, err
	}
	root, err := r.given(r.dir, user)
	if err != nil {
		return nil, err
	}
	visible := folders[:0]
	for _, f := range folders {
		rights := root
		dir, err := openDir(r.dir, f.Dir)
		if err == nil && unix.Faccessat(int(dir.Fd()), aclFile, unix.F_OK, 0) != unix.ENOENT {
			rights, err = r.given(dir, user)
		}
		if dir != nil {
			dir.Close()
		}
		switch {
		case err == unix.ENOENT || err == ErrUnsafe || errors.Is(err, fs.ErrPermission): // gone, or not for this process
		case err != nil:
			return nil, err
		case rights&Lookup != 0:
			visible = append(visible, f)
		}
	}
	return visible, nil
}

// MayRead reports whether the rights file lets a user read a folder, for the
// owner at little cost where there is none. What the modes forbid shows when he does.
func (r *Root) MayRead(name, user string) (bool, error) {
	dir := "."
	if !isInbox(name) {
		dir = "." + name
		if proper, err := FolderDir(name); err != nil {
			return false, err
		} else if proper != dir {
			dir = "" // which of two spellings it has is to be found out
		}
	}
	if !r.shared && dir != "" && unix.Faccessat(int(r.dir.Fd()), dir+"/"+aclFile, unix.F_OK, 0) == unix.ENOENT {
		return true, nil
	}
	f, err := r.in(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	rights, err := r.given(f, user)
	return rights&Read != 0, err
}

// line is what the first line of an identifier says.
func line(list []ACLEntry, id string) (Rights, bool) {
	for _, e := range list {
		if e.ID == id {
			return e.Rights, true
		}
	}
	return 0, false
}

// OwnersRights are what a rights file leaves the owner: all, or what the line owner
// says, or the one with his name, less what he has not.
func OwnersRights(list []ACLEntry, owner string) Rights {
	rights, ok := line(list, "user="+owner)
	if !ok {
		rights, ok = line(list, "owner")
	}
	if !ok {
		rights = AllRights
	}
	less, _ := line(list, "-owner")
	less2, _ := line(list, "-user="+owner)
	return rights&^(less|less2) | OwnerRights
}

// SharedRights are what a rights file gives a user who owns nothing: what the line
// says that means the fewest people, less what one with "-" does, chosen likewise.
// So a line with his name can take from him what all have, as with Dovecot. Nobody
// is in a group here, as nobody is with a Dovecot that was told of none.
func SharedRights(list []ACLEntry, user string) Rights {
	narrowest := func(minus string) (rights Rights) {
		for _, id := range []string{"anyone", "authenticated", "user=" + user} {
			if found, ok := line(list, minus+id); ok && id != "user=" {
				rights = found
			}
		}
		return rights
	}
	return narrowest("") &^ narrowest("-")
}
