package apiserver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"berth/catalog"
	"berth/lambda"
)

// accountsPath lists, makes and deletes accounts, keysPath access keys. Accounts are managed by the first account alone; keys
// by it and by the account that they belong to.
const (
	accountsPath = ownPrefix + "v1/accounts"
	keysPath     = ownPrefix + "v1/keys"
	// maxKeyRequest bounds the body of a request, in bytes: a policy with all its white space, and what goes around it.
	maxKeyRequest = 136 << 10
)

func isKeysPath(path string) bool {
	return path == accountsPath || hasPrefix(path, accountsPath+"/") || path == keysPath || hasPrefix(path, keysPath+"/")
}

// KeyDocument is an access key on keysPath. POST takes account, user and policy; the secret is in its answer and nowhere else.
type KeyDocument struct {
	ID      string           `json:"accessKeyId"`
	Secret  string           `json:"secretAccessKey,omitempty"`
	Account lambda.AccountID `json:"account"`
	User    string           `json:"user,omitempty"` // none is the account's root
	ARN     string           `json:"arn"`
	Policy  json.RawMessage  `json:"policy,omitempty"` // none: everything in its account
	Created time.Time        `json:"created,omitzero"`
}

// AccountEntry is an account on accountsPath.
type AccountEntry struct {
	Account     lambda.AccountID `json:"account"`
	Functions   int              `json:"functions"`
	Keys        int              `json:"keys"`
	Concurrency int              `json:"concurrency"`
}

// serveKeys answers accountsPath and keysPath.
func (s *Server) serveKeys(c *call) error {
	if err := s.refuseUnsigned(c); err != nil {
		return err
	}
	body, size, err := readBody(c.r, maxKeyRequest)
	if err != nil {
		return err
	}
	if size > maxKeyRequest {
		return lambda.Errorf(lambda.RequestEntityTooLarge, "Request must be smaller than %d bytes", maxKeyRequest)
	}
	if err := s.identify(c, body); err != nil {
		return err
	}
	c.body = body
	path := c.r.URL.Path
	if hasPrefix(path, accountsPath) {
		return s.serveAccounts(c, lambda.AccountID(strings.TrimPrefix(path[len(accountsPath):], "/")))
	}
	id := strings.TrimPrefix(path[len(keysPath):], "/")
	switch {
	case id == "" && c.r.Method == http.MethodGet:
		return s.listKeys(c)
	case id == "" && c.r.Method == http.MethodPost:
		return s.createKey(c)
	case id != "" && (c.r.Method == http.MethodGet || c.r.Method == http.MethodDelete):
		return s.serveKey(c, id)
	}
	return lambda.Errorf(lambda.UnknownOperation, "%s %s does not exist.", c.r.Method, path)
}

// mayManage asks whether a caller may manage an account's access: its own, or any for the first account's.
func (s *Server) mayManage(c *call, action string, account lambda.AccountID, what string) error {
	resource := "arn:aws:berth:" + s.cfg.Catalog.Region() + ":" + string(account) + ":" + what
	if account != c.account && c.account != catalog.FirstAccount {
		return s.ask(c, &question{action: action, resource: resource, owner: account})
	}
	return s.permitOwn(c, action, resource)
}

func (s *Server) serveAccounts(c *call, id lambda.AccountID) error {
	if c.account != catalog.FirstAccount {
		return lambda.Errorf(lambda.AccessDenied, "Accounts are managed with keys of account %s; this one is of %s.", catalog.FirstAccount, c.account)
	}
	switch {
	case id == "" && c.r.Method == http.MethodGet:
		return s.listAccounts(c)
	case id == "" && c.r.Method == http.MethodPost:
		return s.createAccount(c)
	case id != "" && c.r.Method == http.MethodDelete:
		if err := s.mayManage(c, "berth:DeleteAccount", id, "account"); err != nil {
			return err
		}
		if err := s.cfg.Catalog.DeleteAccount(c.r.Context(), id); err != nil {
			return err
		}
		s.log.Info("account deleted", "account", id, "by", c.who.ARN())
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return lambda.Errorf(lambda.UnknownOperation, "%s %s does not exist.", c.r.Method, c.r.URL.Path)
}

func (s *Server) listAccounts(c *call) error {
	if err := s.permitOwn(c, "berth:ListAccounts", "*"); err != nil {
		return err
	}
	list, keys := []AccountEntry{}, s.cfg.Catalog.KeyCounts()
	for _, a := range s.cfg.Catalog.Accounts() {
		list = append(list, AccountEntry{Account: a.ID, Concurrency: a.Concurrency,
			Functions: s.cfg.Catalog.Usage(a.ID).Functions, Keys: keys[a.ID]})
	}
	return answerJSON(c, map[string]any{"accounts": list})
}

func (s *Server) createAccount(c *call) error {
	var in struct {
		Account lambda.AccountID `json:"account"`
	}
	if err := readStrictly(c.body, &in); err != nil {
		return lambda.Errorf(lambda.SerializationFailure, `expected {"account":"TWELVE DIGITS"}, or {} for a random number: %v`, err)
	}
	if err := s.permitOwn(c, "berth:CreateAccount", "*"); err != nil {
		return err
	}
	id, err := s.cfg.Catalog.CreateAccount(c.r.Context(), in.Account)
	if err != nil {
		return err
	}
	s.log.Info("account made", "account", id, "by", c.who.ARN())
	return answerJSON(c, AccountEntry{Account: id, Concurrency: s.cfg.Catalog.Account(id).Concurrency})
}

func (s *Server) listKeys(c *call) error {
	account := c.account
	if named := c.r.URL.Query().Get("account"); named != "" {
		account = lambda.AccountID(named)
	}
	if err := s.mayManage(c, "berth:ListKeys", account, "account"); err != nil {
		return err
	}
	list := []KeyDocument{}
	for _, k := range s.cfg.Catalog.Keys(account) {
		list = append(list, describeKey(k))
	}
	return answerJSON(c, map[string]any{"keys": list})
}

func (s *Server) createKey(c *call) error {
	var in struct {
		Account lambda.AccountID `json:"account"`
		User    string           `json:"user"`
		Policy  json.RawMessage  `json:"policy"`
	}
	if err := readStrictly(c.body, &in); err != nil {
		return lambda.Errorf(lambda.SerializationFailure, `expected {"account":"TWELVE DIGITS","user":"NAME","policy":{…}}, each optional: %v`, err)
	}
	if in.Account == "" {
		in.Account = c.account
	}
	if err := s.mayManage(c, "berth:CreateKey", in.Account, holder(in.User)); err != nil {
		return err
	}
	k, err := s.cfg.Catalog.CreateKey(c.r.Context(), in.Account, in.User, string(in.Policy))
	if err != nil {
		return err
	}
	s.log.Info("access key made", "account", k.Account, "key", k.ID, "user", k.User, "restricted", k.Restricted, "by", c.who.ARN())
	out := describeKey(k)
	out.Secret = k.Secret
	return answerJSON(c, out)
}

// serveKey shows or deletes one key. That another account's exists is nobody's business.
func (s *Server) serveKey(c *call, id string) error {
	k, ok := s.cfg.Catalog.Key(id)
	if !ok || k.Account != c.account && c.account != catalog.FirstAccount {
		return lambda.Errorf(lambda.ResourceNotFound, "There is no access key %.80q in account %s.", id, c.account)
	}
	if c.r.Method == http.MethodGet {
		if err := s.mayManage(c, "berth:GetKey", k.Account, holder(k.User)); err != nil {
			return err
		}
		return answerJSON(c, describeKey(k))
	}
	if err := s.mayManage(c, "berth:DeleteKey", k.Account, holder(k.User)); err != nil {
		return err
	}
	if err := s.cfg.Catalog.DeleteKey(c.r.Context(), id); err != nil {
		return err
	}
	s.log.Info("access key deleted", "account", k.Account, "key", k.ID, "by", c.who.ARN())
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// holder is the last part of the resource that a key's holder is.
func holder(user string) string {
	if user == "" {
		return "root"
	}
	return "user/" + user
}

// describeKey shows a key without its secret.
func describeKey(k *catalog.Key) KeyDocument {
	return KeyDocument{ID: k.ID, Account: k.Account, User: k.User, Policy: k.Text, Created: k.Created,
		ARN: lambda.Caller{Account: k.Account, User: k.User}.ARN()}
}

func readStrictly(body []byte, in any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	return decoder.Decode(in)
}
