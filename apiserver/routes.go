package apiserver

import (
	"context"
	"fmt"

	"berth/apimodel"
	"berth/lambda"
)

// handlers lists the operations that this server has built, by hand. Invoke is answered by serveInvoke.
func (s *Server) handlers() map[string]handler {
	return map[string]handler{
		"CreateFunction":              op(s.createFunction),
		"GetFunction":                 op(s.getFunction),
		"GetFunctionConfiguration":    op(s.getFunctionConfiguration),
		"ListFunctions":               op(s.listFunctions),
		"UpdateFunctionCode":          op(s.updateFunctionCode),
		"UpdateFunctionConfiguration": op(s.updateFunctionConfiguration),
		"DeleteFunction":              op(s.deleteFunction),

		"PublishVersion":         op(s.publishVersion),
		"ListVersionsByFunction": op(s.listVersions),

		"CreateAlias": op(s.createAlias),
		"GetAlias":    op(s.getAlias),
		"ListAliases": op(s.listAliases),
		"UpdateAlias": op(s.updateAlias),
		"DeleteAlias": op(s.deleteAlias),

		"TagResource":   op(s.tagResource),
		"ListTags":      op(s.listTags),
		"UntagResource": op(s.untagResource),

		"AddPermission":    op(s.addPermission),
		"GetPolicy":        op(s.getPolicy),
		"RemovePermission": op(s.removePermission),

		"GetAccountSettings":        op(s.getAccountSettings),
		"PutFunctionConcurrency":    op(s.putFunctionConcurrency),
		"GetFunctionConcurrency":    op(s.getFunctionConcurrency),
		"DeleteFunctionConcurrency": op(s.deleteFunctionConcurrency),

		"PutProvisionedConcurrencyConfig":    op(s.putProvisionedConcurrency),
		"GetProvisionedConcurrencyConfig":    op(s.getProvisionedConcurrency),
		"ListProvisionedConcurrencyConfigs":  op(s.listProvisionedConcurrency),
		"DeleteProvisionedConcurrencyConfig": op(s.deleteProvisionedConcurrency),

		"GetRuntimeManagementConfig": op(s.getRuntimeManagementConfig),
		"PutRuntimeManagementConfig": op(s.putRuntimeManagementConfig),

		"PutFunctionEventInvokeConfig":    op(s.putEventConfig),
		"UpdateFunctionEventInvokeConfig": op(s.updateEventConfig),
		"GetFunctionEventInvokeConfig":    op(s.getEventConfig),
		"ListFunctionEventInvokeConfigs":  op(s.listEventConfigs),
		"DeleteFunctionEventInvokeConfig": op(s.deleteEventConfig),

		"InvokeAsync":                s.serveInvokeAsync,
		"GetFunctionRecursionConfig": op(s.getFunctionRecursionConfig),
		"PutFunctionRecursionConfig": op(s.putFunctionRecursionConfig),

		"PublishLayerVersion":  op(s.publishLayerVersion),
		"ListLayers":           op(s.listLayers),
		"ListLayerVersions":    op(s.listLayerVersions),
		"GetLayerVersion":      op(s.getLayerVersion),
		"GetLayerVersionByArn": op(s.getLayerVersionByArn),
		"DeleteLayerVersion":   op(s.deleteLayerVersion),

		"AddLayerVersionPermission":    op(s.addLayerVersionPermission),
		"GetLayerVersionPolicy":        op(s.getLayerVersionPolicy),
		"RemoveLayerVersionPermission": op(s.removeLayerVersionPermission),

		"CreateEventSourceMapping": op(s.createMapping),
		"GetEventSourceMapping":    op(s.getMapping),
		"ListEventSourceMappings":  op(s.listMappings),
		"UpdateEventSourceMapping": op(s.updateMapping),
		"DeleteEventSourceMapping": op(s.deleteMapping),

		"CreateCodeSigningConfig":          op(s.createCodeSigning),
		"GetCodeSigningConfig":             op(s.getCodeSigning),
		"ListCodeSigningConfigs":           op(s.listCodeSignings),
		"UpdateCodeSigningConfig":          op(s.updateCodeSigning),
		"DeleteCodeSigningConfig":          op(s.deleteCodeSigning),
		"ListFunctionsByCodeSigningConfig": op(s.listFunctionsByCodeSigning),
		"GetFunctionCodeSigningConfig":     op(s.getFunctionCodeSigning),
		"PutFunctionCodeSigningConfig":     op(s.putFunctionCodeSigning),
		"DeleteFunctionCodeSigningConfig":  op(s.deleteFunctionCodeSigning),

		"CreateCapacityProvider":                 op(s.createCapacityProvider),
		"GetCapacityProvider":                    op(s.getCapacityProvider),
		"ListCapacityProviders":                  op(s.listCapacityProviders),
		"UpdateCapacityProvider":                 op(s.updateCapacityProvider),
		"DeleteCapacityProvider":                 op(s.deleteCapacityProvider),
		"ListFunctionVersionsByCapacityProvider": op(s.listCapacityProviderVersions),
		"GetFunctionScalingConfig":               op(s.getFunctionScaling),
		"PutFunctionScalingConfig":               op(s.putFunctionScaling),
	}
}

// routeTable gives each operation of the model its handler.
func (s *Server) routeTable() (map[*apimodel.Operation]handler, error) {
	built := s.handlers()
	table := make(map[*apimodel.Operation]handler)
	for _, o := range s.model.Operations() {
		h, ok := built[o.Name]
		if !ok {
			h = notBuilt
		}
		table[o] = h
		delete(built, o.Name)
	}
	for name := range built {
		return nil, fmt.Errorf("apiserver: the model has no operation %s", name)
	}
	return table, nil
}

// notBuilt answers for the operations of the API that Berth does not have yet.
func notBuilt(c *call) error {
	return lambda.Errorf(lambda.NotImplemented, "%s is not implemented by this server yet.", c.op.Name)
}

// none is the output of operations without one.
type none struct{}

// op makes a handler of a function on the SDK's structs. The handler asks the policies first.
func op[In, Out any](f func(context.Context, *call, *In) (*Out, error)) handler {
	return func(c *call) error {
		in := new(In)
		if err := c.op.Decode(c.r, c.path, c.body, in); err != nil {
			return err
		}
		if err := c.server.permit(c, in); err != nil {
			return err
		}
		out, err := f(c.r.Context(), c, in)
		if err != nil {
			return err
		}
		if _, empty := any(out).(*none); empty {
			return c.op.Encode(c.w, nil)
		}
		return c.op.Encode(c.w, out)
	}
}
