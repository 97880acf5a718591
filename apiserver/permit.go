package apiserver

import (
	"reflect"
	"strconv"
	"strings"

	"berth/apimodel"
	"berth/lambda"
	"berth/policy"
)

// acrossAccounts are the operations on functions that a resource policy can open to other accounts (developer guide, "Granting
// function access to other accounts"); invocations have a gate of their own.
var acrossAccounts = map[string]bool{
	"CreateAlias": true, "DeleteAlias": true, "GetAlias": true, "ListAliases": true, "UpdateAlias": true,
	"DeleteFunction": true, "GetFunction": true, "GetFunctionConfiguration": true, "GetPolicy": true,
	"ListVersionsByFunction": true, "PublishVersion": true, "UpdateFunctionCode": true,
	"DeleteFunctionConcurrency": true, "GetFunctionConcurrency": true, "PutFunctionConcurrency": true,
	"DeleteFunctionEventInvokeConfig": true, "GetFunctionEventInvokeConfig": true, "ListFunctionEventInvokeConfigs": true,
	"PutFunctionEventInvokeConfig": true, "UpdateFunctionEventInvokeConfig": true,
	"DeleteProvisionedConcurrencyConfig": true, "GetProvisionedConcurrencyConfig": true,
	"ListProvisionedConcurrencyConfigs": true, "PutProvisionedConcurrencyConfig": true,
	"ListTags": true, "TagResource": true, "UntagResource": true,
	"InvokeWithResponseStream": true,
}

// action returns what a caller must be allowed for an operation: mostly its own name.
func action(o *apimodel.Operation) string {
	switch o.Name {
	case "Invoke", "InvokeWithResponseStream":
		return invokeAction
	}
	return "lambda:" + o.Name
}

// permit asks whether the caller of an operation may do it to what its input names. It reads the decoded input, as handlers
// do: so what is judged is what is acted on.
func (s *Server) permit(c *call, in any) error {
	t := inputOf(in)
	switch c.op.Name {
	case "CreateEventSourceMapping", "ListEventSourceMappings":
		return s.permitNamed(c, "*", s.mapped(c, t.text("FunctionName")))
	case "GetLayerVersionByArn":
		return s.permitLayerARN(c, t.text("Arn"))
	case "GetLayerVersion":
		return s.permitLayerARN(c, t.text("LayerName")+":"+t.text("VersionNumber"))
	case "ListLayerVersions": // as on AWS, no layer's resource
		return s.permitNamed(c, "*", nil)
	}
	switch {
	case t.has("UUID"):
		return s.permitMapping(c, strings.ToLower(t.text("UUID")), t.text("FunctionName"))
	case t.has("FunctionName"):
		return s.permitFunction(c, t, t.text("FunctionName"), t.text("Qualifier"))
	case t.has("LayerName"):
		return s.permitLayerChange(c, t.text("LayerName"), t.text("VersionNumber"))
	case t.has("Resource") && strings.Contains(t.text("Resource"), ":function:"):
		return s.permitFunction(c, t, t.text("Resource"), "")
	case t.has("Resource"):
		return s.permitNamed(c, plainARN(t.text("Resource")), nil)
	case t.has("CodeSigningConfigArn"):
		return s.permitNamed(c, plainARN(t.text("CodeSigningConfigArn")), nil)
	}
	return s.permitNamed(c, "*", nil)
}

// permitNamed asks about a resource that has no policy of its own. Whoever the ARN says owns it, handlers look among the
// caller's own.
func (s *Server) permitNamed(c *call, resource string, ctx policy.Context) error {
	if s.unquestioned(c, c.account) {
		return nil
	}
	return s.ask(c, &question{action: action(c.op), resource: resource, owner: c.account, context: ctx})
}

// permitFunction asks about a function. A qualifier counts only where the operation takes one: elsewhere handlers leave it
// aside, and act on the function.
func (s *Server) permitFunction(c *call, t input, name, qualifier string) error {
	ref, err := lambda.ReadRef(name, qualifier, c.account, s.cfg.Catalog.Region())
	if err != nil {
		return s.unreadable(c, err)
	}
	if !t.has("Qualifier") {
		ref.Qualifier = ""
	}
	if s.unquestioned(c, ref.Account) {
		return nil
	}
	q := question{action: action(c.op), resource: ref.ARN(), owner: ref.Account, context: policy.Context{
		policy.LayerARN: t.list("Layers"), policy.PermittedPrincipal: t.list("Principal"),
		policy.FunctionURLType: append(t.list("FunctionUrlAuthType"), t.list("AuthType")...),
	}}
	if ref.Account == c.account || acrossAccounts[c.op.Name] {
		q.policy = s.functionPolicy(ref)
	}
	if err := s.ask(c, &q); err != nil {
		return err
	}
	if ref.Account != c.account {
		c.across = &across{function: idOf(ref)}
	}
	return nil
}

// unreadable leaves it to the handler to refuse a name, perhaps after what else is wrong; but nothing passes unasked.
func (s *Server) unreadable(c *call, err error) error {
	if c.who.Restricted {
		return err
	}
	return nil
}

// permitLayerARN asks for a layer's version, which other accounts may be allowed to read.
func (s *Server) permitLayerARN(c *call, arn string) error {
	name, n, err := splitLayerVersion(arn)
	if err != nil || n < 1 {
		return s.permitNamed(c, plainARN(arn), nil) // there is none: the handler says so
	}
	id, err := s.readLayer(c, name)
	if err != nil {
		return s.unreadable(c, err)
	}
	if err := s.permitLayer(c, id, n); err != nil {
		return err
	}
	if id.Account != c.account {
		c.across = &across{layer: id}
	}
	return nil
}

// permitLayerChange asks about a layer, or with a number one of its versions, of the caller's own.
func (s *Server) permitLayerChange(c *call, name, number string) error {
	id, err := s.readLayer(c, name)
	if err != nil {
		return s.unreadable(c, err)
	}
	resource := s.cfg.Catalog.LayerARN(id)
	if number != "" {
		resource += ":" + number
	}
	return s.permitNamed(c, resource, nil)
}

// permitMapping asks about an event source mapping, for the function that it has, and for the one that it shall have.
func (s *Server) permitMapping(c *call, id, function string) error {
	if s.unquestioned(c, c.account) {
		return nil
	}
	resource := "arn:aws:lambda:" + s.cfg.Catalog.Region() + ":" + string(c.account) + ":event-source-mapping:" + id
	ctx := policy.Context{}
	if m, ok := s.cfg.Catalog.Mapping(c.account, id); ok {
		ctx = s.mapped(c, m.Function)
	}
	if err := s.permitNamed(c, resource, ctx); err != nil || function == "" {
		return err
	}
	return s.permitNamed(c, resource, s.mapped(c, function))
}

// mapped is the context of an event source mapping of a function.
func (s *Server) mapped(c *call, function string) policy.Context {
	ref, err := lambda.ReadRef(function, "", c.account, s.cfg.Catalog.Region())
	if err != nil {
		return nil
	}
	return policy.Context{policy.FunctionARN: {ref.ARN()}}
}

// plainARN writes an ARN of any partition as policies here know it.
func plainARN(arn string) string {
	if rest, ok := strings.CutPrefix(arn, "arn:"); ok {
		if _, rest, ok := strings.Cut(rest, ":"); ok {
			return "arn:aws:" + rest
		}
	}
	return arn
}

// input reads members of any operation's decoded input by their names.
type input struct{ v reflect.Value }

func inputOf(in any) input { return input{reflect.ValueOf(in).Elem()} }

func (t input) has(name string) bool { return t.v.FieldByName(name).IsValid() }

// text returns a string or number, "" for one that is not there.
func (t input) text(name string) string {
	list := t.list(name)
	if len(list) != 1 {
		return ""
	}
	return list[0]
}

// list returns a list of strings, or one string or number as a list; nil for what is not there.
func (t input) list(name string) []string {
	v := reflect.Indirect(t.v.FieldByName(name))
	if !v.IsValid() || v.IsZero() {
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		return []string{v.String()}
	case reflect.Int64, reflect.Int32:
		return []string{strconv.FormatInt(v.Int(), 10)}
	case reflect.Slice:
		if list, ok := v.Interface().([]string); ok {
			return list
		}
	}
	return nil
}
