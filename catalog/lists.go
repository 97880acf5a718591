package catalog

import (
	"strings"

	"berth/lambda"
	"berth/store"
)

// each calls f with the entries under prefix in key order, from the first one after the key prefix+after on, until f
// returns false. f must not call the catalog.
func (c *Catalog) each(prefix, after string, f func(store.Key, *record) bool) {
	from := store.Key(prefix + after)
	c.mirror.Ascend(from, func(k store.Key, r *record, _ store.Revision) bool {
		if !strings.HasPrefix(string(k), prefix) {
			return false
		}
		if after != "" && k == from {
			return true
		}
		return f(k, r)
	})
}

func (c *Catalog) keys(prefix string) []store.Key {
	var keys []store.Key
	c.each(prefix, "", func(k store.Key, _ *record) bool {
		keys = append(keys, k)
		return true
	})
	return keys
}

// page decodes up to n entries under prefix after the given last segment. more tells whether there are others. Entries
// that cannot be decoded are left out: one damaged record must not make the others unreachable.
func page[T any](c *Catalog, prefix, after string, n int) (list []*T, more bool) {
	var records []*record
	c.each(prefix, after, func(_ store.Key, r *record) bool {
		if len(records) == n {
			more = true
			return false
		}
		records = append(records, r)
		return true
	})
	for _, r := range records { // outside of each: decoding takes a while, and the mirror is locked there
		if v, err := r.load(); err == nil {
			if t, ok := v.(*T); ok {
				list = append(list, t)
			}
		}
	}
	return list, more
}

// Functions returns up to n functions of an account in the order of their names, from the one after the name after on.
// next is the value of after for the next page, "" at the end.
func (c *Catalog) Functions(a lambda.AccountID, after string, n int) (list []*Function, next string) {
	found, more := page[Function](c, functionPrefix+string(a)+"/", after, n)
	for _, f := range found {
		if more {
			next = f.Latest.Function
		}
		if !f.Deleting {
			list = append(list, f)
		}
	}
	return list, next
}

// Versions returns up to n versions of a function: $LATEST, then the published ones by number, from the one after the
// number after on ("" is the beginning). next is the value of after for the next page, "" at the end.
func (c *Catalog) Versions(f *Function, after string, n int) (list []*Version, next string) {
	id := f.ID()
	switch after {
	case "":
		list = append(list, &f.Latest)
		next = lambda.Latest
	case lambda.Latest:
	default:
		after = strings.TrimPrefix(string(id.version(after)), id.versions())
	}
	if after == lambda.Latest {
		after = ""
	}
	published, more := page[Version](c, id.versions(), after, n-len(list))
	list = append(list, published...)
	if len(published) > 0 {
		next = published[len(published)-1].Number
	}
	if !more {
		next = ""
	}
	return list, next
}

// Aliases returns up to n aliases of a function by name, from the one after the name after on, with version "" or only
// those that point to version. next is the value of after for the next page, "" at the end.
func (c *Catalog) Aliases(id ID, version, after string, n int) (list []*Alias, next string) {
	for len(list) < n {
		found, more := page[Alias](c, id.aliases(), after, n)
		for _, a := range found {
			if after = a.Name; version == "" || a.Version == version {
				list = append(list, a)
			}
			if len(list) == n {
				return list, c.unlessLast(id.aliases(), after)
			}
		}
		if !more || len(found) == 0 {
			return list, ""
		}
	}
	return list, after
}

// unlessLast returns after if entries follow it, else "".
func (c *Catalog) unlessLast(prefix, after string) string {
	last := ""
	c.each(prefix, after, func(store.Key, *record) bool {
		last = after
		return false
	})
	return last
}

// Pending returns the work that waits: versions to prepare and removals to end, at most n. That a version waits stands in its
// own record, so that a new function is one write, and no preparation is forgotten in a crash. It visits the records of all
// functions and versions, and decodes those that wait.
func (c *Catalog) Pending(n int) []Work {
	var list []Work
	for _, prefix := range []string{functionPrefix, versionPrefix} {
		var waiting []*record
		c.each(prefix, "", func(_ store.Key, r *record) bool {
			if r.pending {
				waiting = append(waiting, r)
			}
			return len(list)+len(waiting) < n
		})
		for _, r := range waiting {
			if w, ok := r.work(); ok {
				list = append(list, w)
			}
		}
	}
	c.each(pendingPrefix, "", func(k store.Key, _ *record) bool {
		if w, ok := parsePending(k); ok {
			list = append(list, w)
		}
		return len(list) < n
	})
	return list
}

// work returns the preparation that a function's or version's record waits for; false if it waits for none.
func (r *record) work() (Work, bool) {
	value, err := r.load()
	if err != nil {
		return Work{}, false
	}
	switch v := value.(type) {
	case *Function:
		waits := v.Latest.State == lambda.Pending || v.Latest.Update == InProgress
		return Work{v.ID(), lambda.Latest}, waits && !v.Deleting
	case *Version:
		return Work{ID{v.Account, v.Function}, v.Number}, v.State == lambda.Pending
	}
	return Work{}, false
}
