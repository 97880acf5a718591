package catalog

import (
	"context"
	"crypto/rand"
	"time"

	"berth/lambda"
	"berth/store"
)

// URL is the function URL of a function or alias.
type URL struct {
	ID         string    `json:"id"`
	Account    string    `json:"account"`
	Function   string    `json:"function"`
	Qualifier  string    `json:"qualifier,omitempty"` // an alias; "" is the unqualified function
	AuthType   string    `json:"auth"`                // NONE or AWS_IAM
	InvokeMode string    `json:"mode,omitempty"`      // BUFFERED or RESPONSE_STREAM; "", as long as nobody has set it, is BUFFERED
	CORS       *CORS     `json:"cors,omitempty"`
	Created    time.Time `json:"created"`
	Modified   time.Time `json:"modified"`
}

// CORS says which pages of other origins may read a function URL's answers. Lists that were not given are nil.
type CORS struct {
	AllowCredentials *bool    `json:"credentials,omitempty"`
	AllowHeaders     []string `json:"headers,omitempty"`
	AllowMethods     []string `json:"methods,omitempty"`
	AllowOrigins     []string `json:"origins,omitempty"`
	ExposeHeaders    []string `json:"expose,omitempty"`
	MaxAge           *int     `json:"maxAge,omitempty"` // seconds
}

// urlOwner says whose URL an id is.
type urlOwner struct {
	Account   lambda.AccountID `json:"account"`
	Function  string           `json:"function"`
	Qualifier string           `json:"qualifier,omitempty"`
}

// URLIDLength is the length of a function URL's id, in characters of a–z and 0–9 (as Lambda's are).
const URLIDLength = 32

// urlDigits are the characters of an id. The first 32 of a–z and 0–7: five random bits each, and none more likely than others.
const urlDigits = "abcdefghijklmnopqrstuvwxyz234567"

func newURLID() string {
	id := make([]byte, URLIDLength)
	rand.Read(id) // never fails: it ends the process instead
	for i, b := range id {
		id[i] = urlDigits[b%32]
	}
	return string(id)
}

func (id ID) url(qualifier string) store.Key {
	if qualifier == "" {
		qualifier = unqualified
	}
	return store.Key(id.urls() + qualifier)
}

// Ref returns what a call of the URL invokes.
func (u *URL) Ref(region string) lambda.Ref {
	return lambda.Ref{Account: lambda.AccountID(u.Account), Region: region, Function: u.Function, Qualifier: u.Qualifier}
}

// URLByID finds a function URL by its id: two look-ups in memory.
func (c *Catalog) URLByID(id string) (*URL, bool) {
	owner, ok := find[urlOwner](c, store.Key(urlIDPrefix+id))
	if !ok {
		return nil, false
	}
	u, ok := c.URL(ID{owner.Account, owner.Function}, owner.Qualifier)
	return u, ok && u.ID == id
}

// URL returns the URL of a function (qualifier "") or alias.
func (c *Catalog) URL(id ID, qualifier string) (*URL, bool) {
	if _, ok := c.Function(id); !ok {
		return nil, false
	}
	return find[URL](c, id.url(qualifier))
}

// URLs returns up to n URLs of a function, from the one after the position after on. next is the value of after for the next page, ""
// at the end.
func (c *Catalog) URLs(id ID, after string, n int) (list []*URL, next string) {
	list, more := page[URL](c, id.urls(), after, n)
	if more && len(list) > 0 {
		if next = list[len(list)-1].Qualifier; next == "" {
			next = unqualified
		}
	}
	return list, next
}

// noSuchFunction is how the service says that a function or alias is missing (recorded in test_url_config_exceptions).
func noSuchFunction() error {
	return lambda.Errorf(lambda.ResourceNotFound, "Function does not exist")
}

// NoSuchURL is how the service says that a function URL is missing (same recording).
func NoSuchURL() error {
	return lambda.Errorf(lambda.ResourceNotFound, "The resource you requested does not exist.")
}

// CreateURL gives a function or alias a URL; u.ID is made here. Errors: ResourceNotFound, ResourceConflict when it has one.
func (c *Catalog) CreateURL(ctx context.Context, id ID, u URL) (*URL, error) {
	u.ID, u.Account, u.Function = newURLID(), string(id.Account), id.Name
	u.Created = time.Now()
	u.Modified = u.Created
	_, err := c.change(ctx, id, noSuchFunction(), func(ch *change) error {
		if !c.urlTarget(id, u.Qualifier) {
			return noSuchFunction()
		}
		if _, taken := find[URL](c, id.url(u.Qualifier)); taken {
			return lambda.Errorf(lambda.ResourceConflict, "Failed to create function url config for [functionArn = %s]. Error message:  "+
				"FunctionUrlConfig exists for this Lambda function", c.arn(id, u.Qualifier))
		}
		if err := ch.put(store.Key(urlIDPrefix+u.ID), &urlOwner{id.Account, id.Name, u.Qualifier}); err != nil {
			return err
		}
		return ch.put(id.url(u.Qualifier), &u)
	})
	if err != nil {
		return nil, err
	}
	return &u, nil
}

// urlTarget reports whether a function (qualifier "") or alias can have a URL. Versions have none.
func (c *Catalog) urlTarget(id ID, qualifier string) bool {
	if qualifier == "" {
		return true
	}
	_, ok := find[Alias](c, id.alias(qualifier))
	return ok
}

// UpdateURL changes a URL; edit changes a copy. Error: ResourceNotFound.
func (c *Catalog) UpdateURL(ctx context.Context, id ID, qualifier string, edit func(*URL)) (*URL, error) {
	var next URL
	_, err := c.change(ctx, id, noSuchFunction(), func(ch *change) error {
		if !c.urlTarget(id, qualifier) {
			return noSuchFunction()
		}
		u, ok := find[URL](c, id.url(qualifier))
		if !ok {
			return NoSuchURL()
		}
		next = *u
		edit(&next)
		next.Modified = time.Now()
		return ch.put(id.url(qualifier), &next)
	})
	if err != nil {
		return nil, err
	}
	return &next, nil
}

// DeleteURL removes a URL. Error: ResourceNotFound when there is none.
func (c *Catalog) DeleteURL(ctx context.Context, id ID, qualifier string) error {
	_, err := c.change(ctx, id, NoSuchURL(), func(ch *change) error {
		u, ok := find[URL](c, id.url(qualifier))
		if !ok {
			return NoSuchURL()
		}
		ch.removeURL(u)
		return nil
	})
	return err
}

func (ch *change) removeURL(u *URL) {
	ch.stage(store.Delete(ch.id.url(u.Qualifier), store.Any))
	ch.stage(store.Delete(store.Key(urlIDPrefix+u.ID), store.Any))
}

// urlIDs returns the keys under which a function's URLs are found.
func (c *Catalog) urlIDs(id ID) []store.Key {
	var keys []store.Key
	for after := ""; ; {
		list, next := c.URLs(id, after, maxBatch)
		for _, u := range list {
			keys = append(keys, store.Key(urlIDPrefix+u.ID))
		}
		if after = next; next == "" {
			return keys
		}
	}
}
