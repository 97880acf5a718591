package node

import (
	"crypto/rand"
	"strings"

	"berth/lambda"
	"berth/worker"
)

// placeholderCredentials are what a function finds in its environment: of the form that AWS SDKs expect, so that they start,
// and fresh for every process. They open nothing: Berth has no roles that a function could act as.
func placeholderCredentials(*lambda.Version) worker.Credentials {
	return worker.Credentials{
		AccessKeyID:     "ASIA" + letters(16),
		SecretAccessKey: letters(40),
		SessionToken:    letters(120),
	}
}

// letters returns n random characters of base32, upper case.
func letters(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(rand.Text())
	}
	return b.String()[:n]
}
