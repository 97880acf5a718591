package lambda

import (
	"crypto/sha256"
	"encoding/base32"
)

// Caller is who signed a request.
type Caller struct {
	Account    AccountID
	Key        string // access key id; "" for a request that nobody signed (development mode)
	User       string // "" is the account's root
	Restricted bool   // the key has an identity policy; without one it may do everything that the account may
}

// ARN returns the caller's ARN: arn:aws:iam::ACCOUNT:root or arn:aws:iam::ACCOUNT:user/NAME.
func (c Caller) ARN() string {
	if c.User == "" {
		return "arn:aws:iam::" + string(c.Account) + ":root"
	}
	return "arn:aws:iam::" + string(c.Account) + ":user/" + c.User
}

// UserID returns the unique id that IAM would show: the account's number for its root, "AIDA" and 17 letters for a user.
// It is made from account and name, so a name given again has it again.
func (c Caller) UserID() string {
	if c.User == "" {
		return string(c.Account)
	}
	const letters = 17
	sum := sha256.Sum256([]byte(string(c.Account) + "/" + c.User))
	return "AIDA" + base32.StdEncoding.EncodeToString(sum[:])[:letters]
}
